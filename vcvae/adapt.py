"""A voice that was never heard in training, learned from the very utterances that show it, in minutes.

What the decoder makes of a new voice is near it, and not it: the exemplars tell how it sounds, but which of all that is
heard matters was learned from other voices. A few steps on the target's own speech, rebuilt from its content and the
rest of its frames, move the decoder to it (as in AdaSpeech, Chen et al. 2021, arXiv:2103.00993, with more of both).

A few seconds do not say everything that a source may, and what the decoder does not hear it begins to forget. So it
rehearses (Robins 1995, doi:10.1080/09540099550039318): in each step it also rebuilds some of the very speech that is to
be converted, in voices made from it by warping, that it may keep the words and learn nobody else's voice. And it hears
the target's words as the model would say them in the voice that is to be converted, since that is what it will hear.

What is asked for in the end is the conversion, and it needs no known answer to be judged: `Critics` say how near it is
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

from vcvae.critics import Critics
from vcvae.defaults import ADAPT_STEPS
from vcvae.models.disentangling import DisentanglingVAE
from vcvae.models.voice import Timbre, Voice, level
from vcvae.training.perturbation import Perturbation, PerturbationConfig, warp, warp_known

RATE = 2e-4  # Adam moves every weight so far at once, and what is moved quickly forgets more than it learns
SEGMENT = 256  # frames that a step rebuilds: 3 s
MOST = 4096  # exemplars, 190 s, that a step looks up: more say little more, and cost as much again
REST = 20  # exemplars that must be left beside them; where fewer are, the segment's own are kept
WARP = 0.25  # the content is heard from voices as different as in training, or it would bring the target's along
REHEARSAL = 1.0  # weight of what is rehearsed; less of it is more of the target, and keeps fewer words
LIKENESS = 1.5  # weight of how unlike the target the critics find a conversion
WORDS = 2.0  # … and of how far from the source's words
LISTENING = 2  # the conversion is judged in one of so many steps, and counts as much more
APPROACH = 3  # the mean is of all weights but those of the first of so many parts of the way

Heard = tuple[Tensor, Tensor]  # a log-mel (1, n_mels, frames) and the bands (1, n_mels) that it fills


def adapt(
    model: DisentanglingVAE,
    heard: Sequence[Heard],
    *,
    rehearsed: Sequence[Heard] = (),
    critics: Critics | None = None,
    steps: int = ADAPT_STEPS,
    seed: int = 0,
) -> DisentanglingVAE:
    """A copy of the model whose decoder knows the speaker that is `heard`, and forgets no words that are `rehearsed`.

    Of each, log-mels (1, n_mels, frames) and 1 in the bands (1, n_mels) that the recording fills; what it does not fill
    is not learned. The `critics` judge conversions of what is rehearsed, where they are given. The result depends on
    the arguments and the seed alone.
    """
    tuned = copy.deepcopy(model).requires_grad_(False)
    if not steps:
        return tuned
    decoder = tuned.decoder.requires_grad_(True).train()
    mean = AveragedModel(decoder)
    perturb = Perturbation(PerturbationConfig(warp=WARP), model.config.mel)
    with torch.no_grad():
        sources = [model.voice(mel, known=known) for mel, known in rehearsed]
    target = _Speaker(model, heard, disguises=sources)
    conversions = _Conversions(model, critics, heard, rehearsed) if critics and rehearsed else None
    optimizer = torch.optim.Adam(decoder.parameters(), lr=RATE)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        for step in range(steps):
            error = target.error(decoder, perturb)
            if rehearsed:
                words = rehearsed[int(torch.randint(len(rehearsed), ()))]
                other = _Speaker(model, [_in_another_voice(*words, perturb.centres)])
                error = error + REHEARSAL * other.error(decoder, perturb)
            if conversions and step % LISTENING == 0:
                error = error + LISTENING * conversions.error(decoder)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            if step >= steps // APPROACH:
                mean.update_parameters(decoder)
    tuned.decoder = mean.module
    return tuned.requires_grad_(False).eval()


class _Speaker:
    """Recordings of one speaker, as the encoders hear them."""

    @torch.no_grad()
    def __init__(self, model: DisentanglingVAE, heard: Sequence[Heard], *, disguises: Sequence[Voice] = ()) -> None:
        """Their words are told from conversions to other voices, the `disguises`, where there are some."""
        self.model = model
        self.mels = [mel - level(mel[:, : model.config.encoder_bands]) for mel, _ in heard]
        self.known = [known for _, known in heard]
        self.timbres = [
            model.timbre(mel, model.content(mel).mean, known=known)
            for mel, known in zip(self.mels, self.known, strict=True)
        ]
        self.pitches = [model.pitch(mel) for mel in self.mels]
        self.latent = Timbre.join(self.timbres).average().latent
        self.said = [
            model.convert(mel, disguises[i % len(disguises)]) if disguises else mel for i, mel in enumerate(self.mels)
        ]
        self.lengths = torch.tensor([float(mel.shape[2]) for mel in self.mels])

    def error(self, decoder: nn.Module, perturb: Perturbation) -> Tensor:
        """L1 of a segment that is drawn, rebuilt with the timbre of all the rest."""
        which = int(torch.multinomial(self.lengths, 1))
        mel, known, pitch = self.mels[which], self.known[which], self.pitches[which]
        frames = min(SEGMENT, mel.shape[2])
        start = 4 * int(torch.randint((mel.shape[2] - frames) // 4 + 1, ()))
        mel, said = (x[:, :, start : start + frames] for x in (mel, self.said[which]))
        with torch.no_grad():
            content = self.model.content(perturb(said)).sample()
        timbre = _without(self.timbres, which, start // 4, content.shape[2], self.latent)
        decoded = decoder(content, timbre, pitch[:, start // 2 : (start + frames + 1) // 2], frames=frames)
        error = (decoded - mel).abs().mean(dim=2)
        return (error * known).sum() / known.sum().clamp(min=1)


class _Conversions:
    """What is to be said in the voice that is learned, and how it is judged before there is an answer to compare."""

    @torch.no_grad()
    def __init__(
        self, model: DisentanglingVAE, critics: Critics, heard: Sequence[Heard], sources: Sequence[Heard]
    ) -> None:
        self.model, self.critics, self.sources = model, critics, [mel for mel, _ in sources]
        self.voice = Voice.join(model.voice(mel, known=known) for mel, known in heard).average()
        self.wanted = critics.voice([mel for mel, _ in heard])

    def error(self, decoder: nn.Module) -> Tensor:
        """Of a segment that is drawn: how unlike the target it is, and how far from what the source says."""
        model, mel = self.model, self.sources[int(torch.randint(len(self.sources), ()))]
        frames = min(SEGMENT, mel.shape[2])
        start = 4 * int(torch.randint((mel.shape[2] - frames) // 4 + 1, ()))
        mel = mel[:, :, start : start + frames]
        with torch.no_grad():
            pitch, melody = model.pitch(mel), model.melody(mel, self.voice)
            said, moves = model.content(mel).mean, model.articulation(mel)
            meant = self.critics.speak(mel, pitch)
        converted = decoder(said, self.voice.timbre, melody, frames=frames, articulation=moves)
        bands = slice(model.config.encoder_bands)
        converted = converted + level(mel[:, bands]) - level(converted[:, bands])
        spoken = self.critics.speak(converted, melody)
        return LIKENESS * self.critics.unlike(spoken, self.wanted) + WORDS * self.critics.misread(spoken, meant)


def _in_another_voice(mel: Tensor, known: Tensor, centres: Tensor) -> Heard:
    """The same words, their pitch and tract scaled by a factor that is drawn."""
    factor = torch.exp(torch.empty(1).uniform_(-1, 1) * math.log(1 + WARP))
    return warp(mel, factor, centres), warp_known(known, factor, centres)


def _without(timbres: list[Timbre], which: int, start: int, count: int, latent: Tensor) -> Timbre:
    """All exemplars but `count` from `start` on of one utterance, as one timbre (1, …); of many utterances, some."""
    kept = [torch.ones(timbre.said.shape[1], dtype=torch.bool) for timbre in timbres]
    if sum(map(len, kept)) > MOST:
        room = MOST
        for i in torch.randperm(len(kept)).tolist():
            kept[i][:] = i == which or room > 0
            room -= len(kept[i])
    kept[which][start : start + count] = False
    if sum(int(mask.sum()) for mask in kept) < REST:
        kept[which][:] = True
    frames = (
        torch.cat([getattr(timbre, name)[:, mask] for timbre, mask in zip(timbres, kept, strict=True)], dim=1)
        for name in ("said", "sound", "exists")
    )
    return Timbre(latent, *frames)
