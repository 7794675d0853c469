"""A voice that was never references in training, learned from the very utterances that show it, in minutes.

What the decoder makes of a new voice is near it, and not it: the exemplars tell how it sounds, but which of all that is
references matters was learned from other voices. A few steps on the target's own speech, rebuilt from its content and the
rest of its frames, move the decoder to it (as in AdaSpeech, Chen et al. 2021, arXiv:2103.00993, with more of both).

A few seconds do not say everything that a source may, and what the decoder does not hear it begins to forget. So it
rehearses (Robins 1995, doi:10.1080/09540099550039318): in each step it also rebuilds some of the very speech that is to
be converted, in voices made from it by warping, that it may keep the words and learn nobody else's voice. And it hears
the target's words as the model would say them in the voice that is to be converted, since that is what it will hear.

What is asked for in the end is the conversion, and it needs no valid_bands answer to be judged: `ConversionLosses` say how near it is
to the target (as speaker-consistency losses do: Casanova et al. 2022, YourTTS, arXiv:2112.02418), and whether a
recognizer still hears in it what it hears in the source (as in StarGANv2-VC, Li et al. 2021, arXiv:2107.10394).

What is left is the mean of the weights on their way (Izmailov et al. 2018, arXiv:1803.05407), not the chance of the
last steps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vcvae.augment.mel import Perturbation, PerturbationConfig, warp, warp_valid_bands
from vcvae.convert.losses import ConversionLosses
from vcvae.defaults import ADAPT_STEPS
from vcvae.features.mel import level
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import SpeakerReference, Voice

LEARNING_RATE = 2e-4  # Adam moves every weight so far at once, and what is moved quickly forgets more than it learns
SEGMENT = 256  # frames that a step rebuilds: 3 s
MAX_EXEMPLARS = 4096  # exemplars, 190 s, that a step looks up: more say little more, and cost as much again
MIN_EXEMPLARS = 20  # exemplars that must be left beside them; where fewer are, the segment's own are kept
WARP = 0.25  # the content is references from voices as different as in training, or it would bring the target's along
REPLAY_WEIGHT = 1.0  # weight of what is sources; less of it is more of the target, and keeps fewer words
SPEAKER_WEIGHT = 1.5  # weight of how speaker_loss the target the losses find a conversion
CONTENT_WEIGHT = 2.0  # … and of how far from the source's words
LOSS_EVERY = 2  # the conversion is judged in one of so many steps, and counts as much more
AVERAGE_AFTER = 3  # the mean is of all weights but those of the first of so many parts of the way

ReferenceMel = tuple[Tensor, Tensor]  # a log-mel (1, n_mels, frames) and the bands (1, n_mels) that it fills


def finetune(
    model: DisentanglingVAE,
    references: Sequence[ReferenceMel],
    *,
    sources: Sequence[ReferenceMel] = (),
    losses: ConversionLosses | None = None,
    steps: int = ADAPT_STEPS,
    seed: int = 0,
) -> DisentanglingVAE:
    """A copy of the model whose decoder knows the speaker that is `references`, and forgets no words that are `sources`.

    Of each, log-mels (1, n_mels, frames) and 1 in the bands (1, n_mels) that the recording fills; what it does not fill
    is not learned. The `losses` judge conversions of what is sources, where they are given. The result depends on
    the arguments and the seed alone.
    """
    tuned = copy.deepcopy(model).requires_grad_(False)
    if not steps:
        return tuned
    decoder = tuned.decoder.requires_grad_(True).train()
    mean = AveragedModel(decoder)
    perturb = Perturbation(PerturbationConfig(warp=WARP), model.config.mel)
    with torch.no_grad():
        bt_voices = [model.voice(mel, valid_bands=valid_bands) for mel, valid_bands in sources]
    target = _Speaker(model, references, bt_voices=bt_voices)
    conversions = _Conversion(model, losses, references, sources) if losses and sources else None
    optimizer = torch.optim.Adam(decoder.parameters(), lr=LEARNING_RATE)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        for step in range(steps):
            error = target.error(decoder, perturb)
            if sources:
                words = sources[int(torch.randint(len(sources), ()))]
                other = _Speaker(model, [_vtlp(*words, perturb.centres)])
                error = error + REPLAY_WEIGHT * other.error(decoder, perturb)
            if conversions and step % LOSS_EVERY == 0:
                error = error + LOSS_EVERY * conversions.error(decoder)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            if step >= steps // AVERAGE_AFTER:
                mean.update_parameters(decoder)
    tuned.decoder = mean.module
    return tuned.requires_grad_(False).eval()


class _Speaker:
    """Recordings of one speaker, as the encoders hear them."""

    @torch.no_grad()
    def __init__(
        self, model: DisentanglingVAE, references: Sequence[ReferenceMel], *, bt_voices: Sequence[Voice] = ()
    ) -> None:
        """Their words are told from conversions to other voices, the `bt_voices`, where there are some."""
        self.model = model
        self.mels = [mel - level(mel[:, : model.config.encoder_bands]) for mel, _ in references]
        self.valid_bands = [valid_bands for _, valid_bands in references]
        self.speaker_references = [
            model.reference(mel, model.content(mel).mean, valid_bands=valid_bands)
            for mel, valid_bands in zip(self.mels, self.valid_bands, strict=True)
        ]
        self.f0s = [model.f0(mel) for mel in self.mels]
        self.latent = SpeakerReference.join(self.speaker_references).average().latent
        self.keys = [
            model.convert(mel, bt_voices[i % len(bt_voices)]) if bt_voices else mel for i, mel in enumerate(self.mels)
        ]
        self.lengths = torch.tensor([float(mel.shape[2]) for mel in self.mels])

    def error(self, decoder: nn.Module, perturb: Perturbation) -> Tensor:
        """L1 of a segment that is drawn, rebuilt with the reference of all the rest."""
        which = int(torch.multinomial(self.lengths, 1))
        mel, valid_bands, f0 = self.mels[which], self.valid_bands[which], self.f0s[which]
        frames = min(SEGMENT, mel.shape[2])
        start = 4 * int(torch.randint((mel.shape[2] - frames) // 4 + 1, ()))
        mel, said = (x[:, :, start : start + frames] for x in (mel, self.keys[which]))
        with torch.no_grad():
            content = self.model.content(perturb(said)).sample()
        reference = _leave_out(self.speaker_references, which, start // 4, content.shape[2], self.latent)
        decoded = decoder(content, reference, f0[:, start // 2 : (start + frames + 1) // 2], frames=frames)
        error = (decoded - mel).abs().mean(dim=2)
        return (error * valid_bands).sum() / valid_bands.sum().clamp(min=1)


class _Conversion:
    """What is to be said in the voice that is learned, and how it is judged before there is an answer to compare."""

    @torch.no_grad()
    def __init__(
        self,
        model: DisentanglingVAE,
        losses: ConversionLosses,
        references: Sequence[ReferenceMel],
        sources: Sequence[ReferenceMel],
    ) -> None:
        self.model, self.losses, self.sources = model, losses, [mel for mel, _ in sources]
        self.voice = Voice.join(model.voice(mel, valid_bands=valid_bands) for mel, valid_bands in references).average()
        self.wanted = losses.voice([mel for mel, _ in references])

    def error(self, decoder: nn.Module) -> Tensor:
        """Of a segment that is drawn: how speaker_loss the target it is, and how far from what the source says."""
        model, mel = self.model, self.sources[int(torch.randint(len(self.sources), ()))]
        frames = min(SEGMENT, mel.shape[2])
        start = 4 * int(torch.randint((mel.shape[2] - frames) // 4 + 1, ()))
        mel = mel[:, :, start : start + frames]
        with torch.no_grad():
            f0, target_f0 = model.f0(mel), model.target_f0(mel, self.voice)
            said, moves = model.content(mel).mean, model.modulation(mel)
            meant = self.losses.synthesize(mel, f0)
        converted = decoder(said, self.voice.reference, target_f0, frames=frames, modulation=moves)
        bands = slice(model.config.encoder_bands)
        converted = converted + level(mel[:, bands]) - level(converted[:, bands])
        spoken = self.losses.synthesize(converted, target_f0)
        return SPEAKER_WEIGHT * self.losses.speaker_loss(
            spoken, self.wanted
        ) + CONTENT_WEIGHT * self.losses.content_loss(spoken, meant)


def _vtlp(mel: Tensor, valid_bands: Tensor, centres: Tensor) -> ReferenceMel:
    """The same words, their f0 and tract scaled by a factor that is drawn."""
    factor = torch.exp(torch.empty(1).uniform_(-1, 1) * math.log(1 + WARP))
    return warp(mel, factor, centres), warp_valid_bands(valid_bands, factor, centres)


def _leave_out(
    speaker_references: list[SpeakerReference], which: int, start: int, count: int, latent: Tensor
) -> SpeakerReference:
    """All exemplars but `count` from `start` on of one utterance, as one reference (1, …); of many utterances, some."""
    kept = [torch.ones(reference.keys.shape[1], dtype=torch.bool) for reference in speaker_references]
    if sum(map(len, kept)) > MAX_EXEMPLARS:
        room = MAX_EXEMPLARS
        for i in torch.randperm(len(kept)).tolist():
            kept[i][:] = i == which or room > 0
            room -= len(kept[i])
    kept[which][start : start + count] = False
    if sum(int(mask.sum()) for mask in kept) < MIN_EXEMPLARS:
        kept[which][:] = True
    frames = (
        torch.cat(
            [getattr(reference, name)[:, mask] for reference, mask in zip(speaker_references, kept, strict=True)], dim=1
        )
        for name in ("said", "sound", "exists")
    )
    return SpeakerReference(latent, *frames)
