"""What conversion knows of a target: how it sounds, where its pitch lies, and how far its bands spread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.models.layers import Mask


@dataclass(frozen=True)
class Timbre:
    """How the speakers of a batch of utterances sound: what the decoder is told of them.

    In general, the speaker latent (batch, speaker_latent); and frame by frame, at a quarter of the mel's rate, the
    exemplars: what each frame has `said` (batch, frames, content_latent), how it did `sound` (batch, frames,
    speaker_channels), and whether it `exists` (batch, frames, 1) or is padding.
    """

    latent: Tensor
    said: Tensor
    sound: Tensor
    exists: Tensor

    @classmethod
    def join(cls, timbres: Iterable[Timbre]) -> Timbre:
        """Several batches as one."""
        timbres = list(timbres)
        longest = max(timbre.said.shape[1] for timbre in timbres)
        frames = [[t.said, t.sound, t.exists] for t in timbres]
        padded = [[F.pad(x, (0, 0, 0, longest - x.shape[1])) for x in xs] for xs in frames]
        return cls(torch.cat([t.latent for t in timbres]), *map(torch.cat, zip(*padded, strict=True)))

    def average(self) -> Timbre:
        """The one timbre, (1, …), that a batch of utterances by one speaker shows: the mean latent, and all frames."""
        exists = self.exists[..., 0] > 0
        return Timbre(
            F.normalize(self.latent.mean(dim=0, keepdim=True), dim=-1),
            *(x[exists][None] for x in (self.said, self.sound, self.exists)),
        )

    def expand(self, batch: int) -> Timbre:
        """One timbre for a whole batch."""
        return Timbre(*(x.expand(batch, *x.shape[1:]) for x in (self.latent, self.said, self.sound, self.exists)))

    def __getitem__(self, index: Tensor | slice) -> Timbre:
        """The timbres of some of the batch's items."""
        return Timbre(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class Voice:
    """A target: what conversion needs to know of the speakers of a batch of utterances.

    The timbre; the register, mean log2 F0, (batch,); and each band's `spread` (batch, n_mels), its standard deviation
    over the frames with speech, of which there are `frames` (batch,).
    """

    timbre: Timbre
    register: Tensor
    spread: Tensor
    frames: Tensor

    @classmethod
    def join(cls, voices: Iterable[Voice]) -> Voice:
        """Several batches as one."""
        voices = list(voices)
        return cls(
            Timbre.join(voice.timbre for voice in voices),
            *(torch.cat([getattr(voice, field.name) for voice in voices]) for field in fields(cls)[1:]),
        )

    def average(self) -> Voice:
        """The one voice, (1, …), that a batch of utterances by one speaker shows."""
        return Voice(
            self.timbre.average(),
            self.register.nanmean(dim=0, keepdim=True),
            self.spread.mean(dim=0, keepdim=True),
            self.frames.sum(dim=0, keepdim=True),
        )

    def __getitem__(self, index: Tensor | slice) -> Voice:
        """The voices of some of the batch's items."""
        return Voice(*(getattr(self, field.name)[index] for field in fields(self)))


def level(mel: Tensor, mask: Mask = None) -> Tensor:
    """The level of log-mels (batch, bands, frames): ln of the root of their mean energy, (batch, 1, 1).

    A gain of g adds ln g. Pauses weigh nothing, being quiet.
    """
    energy = torch.exp(2 * mel).sum(dim=1)
    weight = torch.ones_like(energy) if mask is None else mask[..., 0]
    return 0.5 * torch.log((energy * weight).sum(dim=1) / weight.sum(dim=1))[:, None, None]


def band_statistics(mel: Tensor, mask: Mask = None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation of each band over the frames with speech, and how many those are.

    Log-mels (batch, n_mels, frames) → (batch, n_mels), (batch, n_mels), (batch,). A frame counts as speech within
    35 dB of the loudest.
    """
    loudness = 0.5 * torch.exp(2 * mel).sum(dim=1).log()
    if mask is not None:
        loudness = loudness.masked_fill(mask[..., 0] == 0, -torch.inf)
    speech = (loudness > loudness.amax(dim=1, keepdim=True) - 4.0).to(mel)[:, None]
    frames = speech.sum(dim=2)
    mean = (mel * speech).sum(dim=2) / frames
    variance = ((mel - mean[..., None]).square() * speech).sum(dim=2) / frames
    return mean, variance.sqrt(), frames[:, 0]


STRENGTH = 0.5  # of the restoration: all of it was nearer to the target, and cost one word in thirty


def restore_variance(mel: Tensor, voice: Voice, mask: Mask = None) -> Tensor:
    """Bring each band of log-mels (batch, n_mels, frames) nearer to the spread that it has in a voice, about its mean.

    A decoder trained with L1 gives medians, which vary less than speech does. The variance that is missing is
    restored as in Toda et al. 2007 (doi:10.1109/TASL.2007.907344), by scaling as in Silén et al. 2012, in proportion
    to how much speech the two spreads rest on (half a second counts half), and not in bands that the target's
    recording does not fill. (Moving the means to the voice's, too, was tried: it cost words and won little.)
    """
    mean, spread, frames = band_statistics(mel, mask)
    trust = (frames / (frames + 43) * voice.frames / (voice.frames + 43))[:, None] * (voice.spread > 0.5)
    scale = 1 + STRENGTH * trust * ((voice.spread / (spread + 1e-3)).clamp(0.5, 2) - 1)
    return mean[..., None] + (mel - mean[..., None]) * scale[..., None]
