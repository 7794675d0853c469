"""Voices that nobody has: a speaker drawn from the prior, and a reference with which the decoder speaks in this voice.

The prior gives an embedding and F0 statistics, but no reference frames. So of a few sentences that come with the
package, by the speakers most similar to the drawn one, formants and long-term spectrum are changed at random, as in
training (`vcvae.augment.voice`), and the variant that is most similar to the drawn speaker is the first reference. Some
sentences are converted to it, and the reference is taken anew from these: embedding and frames then belong together.
What counts as the voice, and is compared with those of real speakers, is the embedding of this second reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae import audio
from vcvae.augment.voice import VoiceAugmentation, VoiceAugmentationConfig
from vcvae.convert.encoder import SAMPLE_FRAMES, SAMPLES, Encoder, ReferenceMel, average_voice
from vcvae.defaults import VOICE_DISTANCE
from vcvae.errors import VcvaeError
from vcvae.features.f0 import MAX_F0, MIN_F0, F0Statistics
from vcvae.models.conversion.prior import MAX_SIMILARITY, VoicePrior
from vcvae.models.conversion.voice import Voice, VoiceCard
from vcvae.pretrained import SENTENCES

PRIOR_SAMPLES = 512  # samples of the prior, of which those near a training speaker are left out
DRAW_ATTEMPTS = 16  # of them that are made into a voice, until one is far enough from all others
NEIGHBOURS = 8  # sentences whose speakers are the most similar ones
VARIANTS = 6  # of each, with other formants and another long-term spectrum
CHANGE = VoiceAugmentationConfig(probability=1.0, warp=0.24, formant_tilt=0.1, equalizer=4.8)
BISECTIONS = 6  # of the way from a voice to another one
TOLERANCE = 0.05  # of the distance that is reached
APART = 0.85  # cosine below which two voices are different ones; of one speaker's utterances it is .97
CONSENT = "nobody's voice: drawn from the prior of voices"


@dataclass(frozen=True)
class DrawnVoice:
    """A drawn voice, and what the frozen speaker network makes of conversions to it, (statistics,) of unit length.

    For a model that takes no such statistics these are the centred speaker embedding.
    """

    voice: Voice
    statistics: Tensor


class Drawing:
    """Draws voices for one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.model = encoder.model

    @cached_property
    def _sentences(self) -> list[ReferenceMel]:
        """The sentences that come with the package; their speakers are synthetic."""
        return self.encoder.load_references(audio.find(SENTENCES))

    @cached_property
    def _sentence_embeddings(self) -> Tensor:
        """Their centred speaker embeddings, (sentences, speaker_latent)."""
        return torch.cat([self._embed(sentence) for sentence in self._sentences])

    @torch.no_grad()  # and no inference mode: a drawn voice can be refined
    def draw(
        self,
        prior: VoicePrior,
        *,
        seed: int,
        f0: float | None = None,
        like: Voice | None = None,
        distance: float = VOICE_DISTANCE,
        avoid: Iterable[Voice] = (),
    ) -> DrawnVoice:
        """A voice of the prior; the arguments are those of `vcvae.Converter.draw`."""
        _check(f0, distance)
        speakers = prior.sample(PRIOR_SAMPLES, seed=seed)
        if f0:
            speakers = speakers[(speakers.f0_statistics.mean - math.log2(f0)).abs().argsort()]
        others = torch.cat([prior.speakers[:0], *(self.embedding(voice).cpu() for voice in avoid)])
        seconds = SAMPLES * SAMPLE_FRAMES / self.encoder.mel_config.frame_rate
        card = VoiceCard(consent=CONSENT, note=f"seed {seed}", seconds=seconds)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for number in range(min(DRAW_ATTEMPTS, len(speakers.embeddings))):
                drawn = self._make(speakers.embeddings[number], speakers.f0_statistics[number : number + 1])
                if like is not None:
                    drawn = self._between(like, drawn.voice, distance)
                if drawn is not None and self._is_apart(drawn.voice, prior, others):
                    f0_statistics = drawn.voice.f0_statistics
                    if f0:
                        mean = torch.full_like(f0_statistics.mean, math.log2(f0))
                        f0_statistics = replace(f0_statistics, mean=mean)
                    made = {"f0_statistics": f0_statistics, "fingerprint": self.encoder.fingerprint, "card": card}
                    return replace(drawn, voice=replace(drawn.voice, **made))
        raise VcvaeError(
            f"seed {seed}: none of {DRAW_ATTEMPTS} drawn voices is far enough from others; give another seed"
            f"{', or another distance' if like is not None else ''}."
        )

    def _is_apart(self, voice: Voice, prior: VoicePrior, others: Tensor) -> bool:
        """Whether a voice is none of the training speakers', nor one of others, centred (voices, speaker_latent)."""
        embedding = self.embedding(voice).cpu()
        return bool((prior.nearest(embedding) < MAX_SIMILARITY).all() and (embedding @ others.mT < APART).all())

    def embedding(self, voice: Voice) -> Tensor:
        """The centred speaker embedding of a voice, (1, speaker_latent)."""
        return self.model.centred_embedding(voice)

    @torch.inference_mode()
    def centred_statistics(self, references: Sequence[ReferenceMel]) -> Tensor:
        """The same as `DrawnVoice.statistics` of a speaker's utterances, less their mean over speakers.

        Their products with the statistics of drawn voices order these by their similarity to the speaker.
        """
        net = self.encoder.speaker_net
        if net is None:
            return self.embedding(average_voice(self.model, references))[0]
        mean = torch.cat([net(reference.mel) for reference in references]).mean(dim=0)
        return F.normalize(mean - self.model.statistics.centre, dim=0)

    def _make(self, embedding: Tensor, f0_statistics: F0Statistics) -> DrawnVoice:
        """The voice of a drawn speaker: centred embedding (speaker_latent,), F0 statistics (1,)."""
        embedding = embedding.to(self.encoder.device)
        nearest = (self._sentence_embeddings @ embedding).topk(min(NEIGHBOURS, len(self._sentences))).indices
        variants = [variant for number in nearest.tolist() for variant in self._vary(self._sentences[number])]
        similarities = [float(self._embed(variant) @ embedding) for variant in variants]
        best = variants[similarities.index(max(similarities))]
        net = self.encoder.speaker_net
        statistics = net(best.mel) if net else None
        first = self.model.voice(best.mel, valid_bands=best.valid_bands, statistics=statistics)
        return self._anew(replace(first, f0_statistics=f0_statistics.to(self.encoder.device)))

    def _embed(self, reference: ReferenceMel) -> Tensor:
        """The centred speaker embedding, (1, speaker_latent)."""
        return self.model.speaker.centred(self.model.speaker(reference.mel, valid_bands=reference.valid_bands))

    def _vary(self, sentence: ReferenceMel) -> list[ReferenceMel]:
        """A sentence with other formants and another long-term spectrum, in some ways."""
        augment = VoiceAugmentation(CHANGE, self.encoder.mel_config, segments=1)
        mels = sentence.mel - self.model.level(sentence.mel, None)
        mel, valid_bands, _ = augment(mels.expand(VARIANTS, -1, -1), sentence.valid_bands.expand(VARIANTS, -1))
        return [ReferenceMel(mel[i : i + 1], valid_bands[i : i + 1]) for i in range(VARIANTS)]

    def _anew(self, voice: Voice) -> DrawnVoice:
        """The voice that conversions to `voice` have; its F0 statistics stay."""
        net = self.encoder.speaker_net
        conversions = [self.model.convert(mel, voice) for mel in self.encoder.sample_mels]
        statistics = [net(mel) if net else None for mel in conversions]
        voices = [self.model.voice(mel, statistics=s) for mel, s in zip(conversions, statistics, strict=True)]
        taken = replace(Voice.join(voices).average(), f0_statistics=voice.f0_statistics)
        mean = torch.cat(statistics).mean(dim=0) if net else self.embedding(taken)[0]
        return DrawnVoice(taken, F.normalize(mean, dim=0))

    def _between(self, like: Voice, drawn: Voice, distance: float) -> DrawnVoice | None:
        """A voice on the way from `like` to `drawn`, at a distance from `like`; None where `drawn` is nearer."""

        def away(voice: Voice) -> float:
            return 1 - float(self.embedding(voice)[0] @ self.embedding(like)[0])

        if away(drawn) < distance:
            return None
        low, high = 0.0, 1.0
        like = replace(like, learned=None, fingerprint=drawn.fingerprint)
        for _ in range(BISECTIONS):
            weight = (low + high) / 2
            between = self._anew(Voice.mix([like, drawn], [1 - weight, weight]))
            reached = away(between.voice)
            low, high = (weight, high) if reached < distance else (low, weight)
        if abs(reached - distance) > TOLERANCE:
            raise VcvaeError(
                f"distance {distance:g}: a drawn voice comes no nearer than {reached:.2f} to this one; give a larger "
                "distance, or mix the two."
            )
        return between


def _check(f0: float | None, distance: float) -> None:
    if f0 is not None and not MIN_F0 <= f0 <= MAX_F0:
        raise VcvaeError(f"f0 {f0:g} Hz: not the mean of a voice; give {MIN_F0:.0f} to {MAX_F0:.0f}.")
    if not 0 < distance < 1:
        raise VcvaeError(f"distance {distance:g}: 1 - the cosine of two voices; give a number between 0 and 1.")
