"""F0Contour: what it is, how it is measured from a waveform, and how a network is told about it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import librosa
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LOWEST, HIGHEST = 60.0, 500.0  # Hz; the range of speaking voices
BINS = 64  # points between the two, equal steps of 0.58 semitones
HOP = 2  # mel frames per f0 frame: 43 values per second follow any f0_l1
STRETCH = 1.6  # most that f0_l1 is widened or band_dropout: a few seconds may not tell how lively a voice is


@dataclass(frozen=True)
class F0Statistics:
    """Where voices lie and how far they move: mean and standard deviation of log2 F0 while voiced, (batch,).

    NaN for one that is never voiced.
    """

    mean: Tensor
    spread: Tensor

    @classmethod
    def join(cls, statistics: Iterable[F0Statistics]) -> F0Statistics:
        """Several batches as one."""
        statistics = list(statistics)
        return cls(torch.cat([r.mean for r in statistics]), torch.cat([r.spread for r in statistics]))

    def average(self) -> F0Statistics:
        """The one f0_statistics, (1,), of a batch of utterances by one speaker."""
        return F0Statistics(self.mean.nanmean(dim=0, keepdim=True), self.spread.nanmean(dim=0, keepdim=True))

    def __getitem__(self, index: Tensor | slice) -> F0Statistics:
        """The statistics of some of the batch's items."""
        return F0Statistics(self.mean[index], self.spread[index])

    def to(self, device: torch.device) -> F0Statistics:
        """The same, on a device."""
        return F0Statistics(self.mean.to(device), self.spread.to(device))


@dataclass(frozen=True)
class F0Contour:
    """A contour: `log_f0` in log2 Hz and `voicing` in [0, 1], both (batch, ceil(mel frames / 2)).

    Value i belongs to mel frame 2 i.
    """

    log_f0: Tensor
    voicing: Tensor

    def statistics(self) -> F0Statistics:
        """Where the voice lies and how far it moves, over the voiced frames, (batch,)."""
        voiced = (self.voicing > 0.5).float()
        count = voiced.sum(dim=1)
        mean = (self.log_f0 * voiced).sum(dim=1) / count
        deviation = (self.log_f0 - mean[:, None]) * voiced
        return F0Statistics(mean, (deviation.square().sum(dim=1) / count).sqrt())

    @classmethod
    def join(cls, contours: Iterable[F0Contour]) -> F0Contour:
        """Several batches, of as many frames, as one."""
        contours = list(contours)
        return cls(torch.cat([c.log_f0 for c in contours]), torch.cat([c.voicing for c in contours]))

    @classmethod
    def concatenate(cls, contours: Iterable[F0Contour]) -> F0Contour:
        """One contour, (batch, frames), of several that follow each other."""
        contours = list(contours)
        return cls(torch.cat([c.log_f0 for c in contours], dim=1), torch.cat([c.voicing for c in contours], dim=1))

    def move(self, here: F0Statistics, there: F0Statistics) -> F0Contour:
        """The same f0_l1, from the f0_statistics that it is in to another: as high, and as lively.

        Where either is of a voice that is never voiced, nothing moves.
        """
        stretch = (there.spread / here.spread.clamp(min=1e-6)).clamp(1 / STRETCH, STRETCH)
        moved = there.mean[:, None] + (self.log_f0 - here.mean[:, None]) * stretch[:, None]
        return F0Contour(torch.where(moved.isnan(), self.log_f0, moved), self.voicing)

    def shift(self, octaves: Tensor | float) -> F0Contour:
        """The same f0_l1, `octaves` (a number, or (batch,)) higher."""
        octaves = torch.as_tensor(octaves, dtype=self.log_f0.dtype, device=self.log_f0.device)
        return F0Contour(self.log_f0 + octaves.reshape(-1, 1), self.voicing)

    def within_range(self) -> F0Contour:
        """The same, where it leaves the range of speaking voices held at its ends."""
        lowest, highest = (math.log2(f) for f in (LOWEST, HIGHEST))
        return F0Contour(self.log_f0.clamp(lowest, highest), self.voicing)

    def __getitem__(self, index: Tensor | slice | tuple[slice, slice]) -> F0Contour:
        """The contours of some of the batch's items, or stretches of them."""
        return F0Contour(self.log_f0[index], self.voicing[index])

    def detach(self) -> F0Contour:
        """The same, and no gradient flows through it."""
        return F0Contour(self.log_f0.detach(), self.voicing.detach())

    def per_frame(self, frames: int) -> F0Contour:
        """A value for each of `frames` mel frames: halfway between its neighbours where there was none."""

        def fill(x: Tensor) -> Tensor:
            after = torch.cat([x[:, 1:], x[:, -1:]], dim=1)
            return torch.stack([x, (x + after) / 2], dim=2).flatten(1)[:, :frames]

        return F0Contour(fill(self.log_f0), fill(self.voicing))

    def salience(self) -> Tensor:
        """A bump at the f0's place among the bins, as high as the voicing: (batch, frames, bins)."""
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


def yin(samples: Tensor, *, sample_rate: int, hop: int, threshold: float = 0.15) -> F0Contour:
    """Measure the f0 of waveforms (batch, samples) by YIN, one value every two mel frames of `hop` samples.

    De Cheveigné & Kawahara 2002 (doi:10.1121/1.1458024), steps 1 to 5, at half the sample rate (f0 has no use for
    the upper half). A frame is voiced where the normalized difference falls below 2 × `threshold`.
    """
    frames = -(-(samples.shape[-1] // hop) // HOP)
    x = F.avg_pool1d(samples[:, None], 2, ceil_mode=True)[:, 0]
    rate, step, offset = sample_rate / 2, hop * HOP // 2, hop // 4  # mel frame 2 i is centred on 2 i · hop + hop / 2
    min_utterance_samples = int(rate / LOWEST) + 2
    shortest = int(rate / HIGHEST)
    window = min_utterance_samples + min_utterance_samples // 2
    half = (window + min_utterance_samples) // 2
    x = F.pad(x, (half - offset, frames * step + 2 * half))
    x = x.unfold(-1, window + min_utterance_samples, step)[:, :frames]

    size = 1 << (2 * window + min_utterance_samples - 1).bit_length() >> 1
    size = size if size >= window + min_utterance_samples else size * 2
    spectrum = torch.fft.rfft(x, size)
    head = torch.fft.rfft(x[..., :window], size)
    correlation = torch.fft.irfft(spectrum * head.conj(), size)[..., :min_utterance_samples]
    energy = F.pad(x.square().cumsum(-1), (1, 0))
    energy = energy[..., window : window + min_utterance_samples] - energy[..., :min_utterance_samples]
    difference = (energy[..., :1] + energy - 2 * correlation).clamp(min=0)
    lags = torch.arange(1, min_utterance_samples, device=x.device)
    normalized = difference[..., 1:] * lags / difference[..., 1:].cumsum(-1).clamp(min=1e-9)
    normalized = F.pad(normalized, (1, 0), value=1.0)

    candidates = normalized[..., shortest : min_utterance_samples - 1]
    is_dip = (candidates <= normalized[..., shortest - 1 : min_utterance_samples - 2]) & (
        candidates < normalized[..., shortest + 1 : min_utterance_samples]
    )
    good = is_dip & (candidates < threshold)
    first = torch.where(good.any(-1), good.float().argmax(-1), candidates.argmin(-1)) + shortest
    before, here, after = (normalized.gather(-1, (first + d).unsqueeze(-1)).squeeze(-1) for d in (-1, 0, 1))
    curvature = (before - 2 * here + after).clamp(min=1e-6)
    lag = first + (0.5 * (before - after) / curvature).clamp(-0.5, 0.5)
    loudness = energy[..., 0]
    audible = loudness > 1e-4 * loudness.amax(dim=-1, keepdim=True).clamp(min=1e-9)
    return F0Contour(torch.log2(rate / lag), ((here < 2 * threshold) & audible).float())


def shift_pitch(samples: np.ndarray, octaves: float, sample_rate: int) -> np.ndarray:
    """Samples (samples,) with their f0 moved by `octaves`, as long as before (formants move, too)."""
    if not octaves:
        return samples
    return librosa.effects.pitch_shift(samples, sr=sample_rate, n_steps=12 * octaves).astype(np.float32)
