"""Pitch: what it is, how it is measured from a waveform, and how a network is told about it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LOWEST, HIGHEST = 60.0, 500.0  # Hz; the range of speaking voices
BINS = 64  # points between the two, equal steps of 0.58 semitones
HOP = 2  # mel frames per pitch frame: 43 values per second follow any intonation
STRETCH = 1.6  # most that intonation is widened or narrowed: a few seconds may not tell how lively a voice is


@dataclass(frozen=True)
class Register:
    """Where voices lie and how far they move: mean and standard deviation of log2 F0 while voiced, (batch,).

    NaN for one that is never voiced.
    """

    mean: Tensor
    spread: Tensor

    @classmethod
    def join(cls, registers: Iterable[Register]) -> Register:
        """Several batches as one."""
        registers = list(registers)
        return cls(torch.cat([r.mean for r in registers]), torch.cat([r.spread for r in registers]))

    def average(self) -> Register:
        """The one register, (1,), of a batch of utterances by one speaker."""
        return Register(self.mean.nanmean(dim=0, keepdim=True), self.spread.nanmean(dim=0, keepdim=True))

    def __getitem__(self, index: Tensor | slice) -> Register:
        """The registers of some of the batch's items."""
        return Register(self.mean[index], self.spread[index])

    def to(self, device: torch.device) -> Register:
        """The same, on a device."""
        return Register(self.mean.to(device), self.spread.to(device))


@dataclass(frozen=True)
class Pitch:
    """A contour: `log_f0` in log2 Hz and `voicing` in [0, 1], both (batch, ceil(mel frames / 2)).

    Value i belongs to mel frame 2 i.
    """

    log_f0: Tensor
    voicing: Tensor

    def register(self) -> Register:
        """Where the voice lies and how far it moves, over the voiced frames, (batch,)."""
        voiced = (self.voicing > 0.5).float()
        count = voiced.sum(dim=1)
        mean = (self.log_f0 * voiced).sum(dim=1) / count
        deviation = (self.log_f0 - mean[:, None]) * voiced
        return Register(mean, (deviation.square().sum(dim=1) / count).sqrt())

    @classmethod
    def join(cls, contours: Iterable[Pitch]) -> Pitch:
        """Several batches, of as many frames, as one."""
        contours = list(contours)
        return cls(torch.cat([c.log_f0 for c in contours]), torch.cat([c.voicing for c in contours]))

    @classmethod
    def concatenate(cls, contours: Iterable[Pitch]) -> Pitch:
        """One contour, (batch, frames), of several that follow each other."""
        contours = list(contours)
        return cls(torch.cat([c.log_f0 for c in contours], dim=1), torch.cat([c.voicing for c in contours], dim=1))

    def move(self, here: Register, there: Register) -> Pitch:
        """The same intonation, from the register that it is in to another: as high, and as lively.

        Where either is of a voice that is never voiced, nothing moves.
        """
        stretch = (there.spread / here.spread.clamp(min=1e-6)).clamp(1 / STRETCH, STRETCH)
        moved = there.mean[:, None] + (self.log_f0 - here.mean[:, None]) * stretch[:, None]
        return Pitch(torch.where(moved.isnan(), self.log_f0, moved), self.voicing)

    def shift(self, octaves: Tensor | float) -> Pitch:
        """The same intonation, `octaves` (a number, or (batch,)) higher."""
        octaves = torch.as_tensor(octaves, dtype=self.log_f0.dtype, device=self.log_f0.device)
        return Pitch(self.log_f0 + octaves.reshape(-1, 1), self.voicing)

    def within_range(self) -> Pitch:
        """The same, where it leaves the range of speaking voices held at its ends."""
        lowest, highest = (math.log2(f) for f in (LOWEST, HIGHEST))
        return Pitch(self.log_f0.clamp(lowest, highest), self.voicing)

    def __getitem__(self, index: Tensor | slice | tuple[slice, slice]) -> Pitch:
        """The contours of some of the batch's items, or stretches of them."""
        return Pitch(self.log_f0[index], self.voicing[index])

    def detach(self) -> Pitch:
        """The same, and no gradient flows through it."""
        return Pitch(self.log_f0.detach(), self.voicing.detach())

    def per_frame(self, frames: int) -> Pitch:
        """A value for each of `frames` mel frames: halfway between its neighbours where there was none."""

        def fill(x: Tensor) -> Tensor:
            after = torch.cat([x[:, 1:], x[:, -1:]], dim=1)
            return torch.stack([x, (x + after) / 2], dim=2).flatten(1)[:, :frames]

        return Pitch(fill(self.log_f0), fill(self.voicing))

    def salience(self) -> Tensor:
        """A bump at the pitch's place among the bins, as high as the voicing: (batch, frames, bins)."""
        place = bins(self.log_f0)
        offsets = torch.arange(BINS, device=place.device, dtype=place.dtype) - place.unsqueeze(-1)
        return torch.exp(-0.5 * offsets.square()) * self.voicing.unsqueeze(-1)


def bins(log_f0: Tensor) -> Tensor:
    """log2 Hz → (fractional) bin, held within the range."""
    low, high = torch.log2(torch.tensor([LOWEST, HIGHEST])).tolist()
    return ((log_f0 - low) / (high - low) * (BINS - 1)).clamp(0, BINS - 1)


def from_bins(place: Tensor) -> Tensor:
    """(Fractional) bin → log2 Hz."""
    low, high = torch.log2(torch.tensor([LOWEST, HIGHEST])).tolist()
    return low + place / (BINS - 1) * (high - low)


def yin(samples: Tensor, *, sample_rate: int, hop: int, threshold: float = 0.15) -> Pitch:
    """Measure the pitch of waveforms (batch, samples) by YIN, one value every two mel frames of `hop` samples.

    De Cheveigné & Kawahara 2002 (doi:10.1121/1.1458024), steps 1 to 5, at half the sample rate (pitch has no use for
    the upper half). A frame is voiced where the normalized difference falls below 2 × `threshold`.
    """
    frames = -(-(samples.shape[-1] // hop) // HOP)
    x = F.avg_pool1d(samples[:, None], 2, ceil_mode=True)[:, 0]
    rate, step, offset = sample_rate / 2, hop * HOP // 2, hop // 4  # mel frame 2 i is centred on 2 i · hop + hop / 2
    longest = int(rate / LOWEST) + 2
    shortest = int(rate / HIGHEST)
    window = longest + longest // 2
    half = (window + longest) // 2
    x = F.pad(x, (half - offset, frames * step + 2 * half))
    x = x.unfold(-1, window + longest, step)[:, :frames]

    size = 1 << (2 * window + longest - 1).bit_length() >> 1
    size = size if size >= window + longest else size * 2
    spectrum = torch.fft.rfft(x, size)
    head = torch.fft.rfft(x[..., :window], size)
    correlation = torch.fft.irfft(spectrum * head.conj(), size)[..., :longest]
    energy = F.pad(x.square().cumsum(-1), (1, 0))
    energy = energy[..., window : window + longest] - energy[..., :longest]
    difference = (energy[..., :1] + energy - 2 * correlation).clamp(min=0)
    lags = torch.arange(1, longest, device=x.device)
    normalized = difference[..., 1:] * lags / difference[..., 1:].cumsum(-1).clamp(min=1e-9)
    normalized = F.pad(normalized, (1, 0), value=1.0)

    candidates = normalized[..., shortest : longest - 1]
    is_dip = (candidates <= normalized[..., shortest - 1 : longest - 2]) & (
        candidates < normalized[..., shortest + 1 : longest]
    )
    good = is_dip & (candidates < threshold)
    first = torch.where(good.any(-1), good.float().argmax(-1), candidates.argmin(-1)) + shortest
    before, here, after = (normalized.gather(-1, (first + d).unsqueeze(-1)).squeeze(-1) for d in (-1, 0, 1))
    curvature = (before - 2 * here + after).clamp(min=1e-6)
    lag = first + (0.5 * (before - after) / curvature).clamp(-0.5, 0.5)
    loudness = energy[..., 0]
    audible = loudness > 1e-4 * loudness.amax(dim=-1, keepdim=True).clamp(min=1e-9)
    return Pitch(torch.log2(rate / lag), ((here < 2 * threshold) & audible).float())
