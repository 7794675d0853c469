"""F0: its contour and statistics, their transfer to another speaker, and measuring them by YIN."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.errors import VcvaeError

MIN_F0, MAX_F0 = 60.0, 500.0  # Hz; the range of speaking voices
F0_BINS = 64  # classes of log F0 from MIN_F0 to MAX_F0, in equal steps of 0.58 semitones
F0_HOP = 2  # mel frames per F0 value: 43 values per second follow any intonation
MAX_SHIFT = 4.0  # octaves between two speakers
MAX_STD_RATIO = 1.6  # bounds the scaling of F0 movements: the standard deviation over a few seconds is unreliable


@dataclass(frozen=True)
class F0Statistics:
    """Mean and standard deviation of log2 F0 over voiced frames, (batch,) each; NaN where no frame is voiced."""

    mean: Tensor
    std: Tensor

    @classmethod
    def join(cls, statistics: Iterable[F0Statistics]) -> F0Statistics:
        """Concatenate batches."""
        statistics = list(statistics)
        return cls(torch.cat([s.mean for s in statistics]), torch.cat([s.std for s in statistics]))

    def average(self) -> F0Statistics:
        """The mean over the batch, (1,), of utterances by one speaker."""
        return F0Statistics(self.mean.nanmean(dim=0, keepdim=True), self.std.nanmean(dim=0, keepdim=True))

    @classmethod
    def mix(cls, statistics: Sequence[F0Statistics], weights: Sequence[float]) -> F0Statistics:
        """The weighted mean, (1,), of the statistics, (1,) each, that are not NaN."""
        joined = cls.join(statistics)
        scale = torch.as_tensor(weights, dtype=joined.mean.dtype, device=joined.mean.device)
        scale = torch.where(joined.mean.isnan(), 0.0, scale)
        total = scale.sum()  # where it is 0, the result is NaN
        return cls(
            (scale * joined.mean.nan_to_num()).sum(dim=0, keepdim=True) / total,
            (scale * joined.std.nan_to_num()).sum(dim=0, keepdim=True) / total,
        )

    def __getitem__(self, index: Tensor | slice) -> F0Statistics:
        """Some of the batch's items."""
        return F0Statistics(self.mean[index], self.std[index])

    def to(self, device: torch.device) -> F0Statistics:
        """Move to a device."""
        return F0Statistics(self.mean.to(device), self.std.to(device))


@dataclass(frozen=True)
class F0Contour:
    """`log_f0` in log2 Hz and `voicing`, a probability, both (batch, ceil(mel frames / 2)).

    Value i belongs to mel frame 2 i. `log_f0` is defined in unvoiced frames, too, but has no meaning there.
    """

    log_f0: Tensor
    voicing: Tensor

    def statistics(self) -> F0Statistics:
        """Mean and standard deviation of log F0 over the voiced frames, (batch,)."""
        voiced = (self.voicing > 0.5).float()
        count = voiced.sum(dim=1)
        mean = (self.log_f0 * voiced).sum(dim=1) / count
        deviation = (self.log_f0 - mean[:, None]) * voiced
        return F0Statistics(mean, (deviation.square().sum(dim=1) / count).sqrt())

    @classmethod
    def join(cls, contours: Iterable[F0Contour]) -> F0Contour:
        """Concatenate batches of equally many frames."""
        contours = list(contours)
        return cls(torch.cat([c.log_f0 for c in contours]), torch.cat([c.voicing for c in contours]))

    @classmethod
    def concatenate(cls, contours: Iterable[F0Contour]) -> F0Contour:
        """Concatenate contours in time."""
        contours = list(contours)
        return cls(torch.cat([c.log_f0 for c in contours], dim=1), torch.cat([c.voicing for c in contours], dim=1))

    def transfer(self, source: F0Statistics, target: F0Statistics) -> F0Contour:
        """The contour with the target's mean and standard deviation in place of the source's, in log F0.

        The standard deviation changes by at most a factor of `MAX_STD_RATIO`. The contour is unchanged where either
        statistics are NaN, of an utterance without voiced frames.
        """
        ratio = (target.std / source.std.clamp(min=1e-6)).clamp(1 / MAX_STD_RATIO, MAX_STD_RATIO)
        log_f0 = target.mean[:, None] + (self.log_f0 - source.mean[:, None]) * ratio[:, None]
        return F0Contour(torch.where(log_f0.isnan(), self.log_f0, log_f0), self.voicing)

    def shift(self, octaves: Tensor | float) -> F0Contour:
        """The contour raised by `octaves`, a number or (batch,)."""
        octaves = torch.as_tensor(octaves, dtype=self.log_f0.dtype, device=self.log_f0.device)
        return F0Contour(self.log_f0 + octaves.reshape(-1, 1), self.voicing)

    def within_range(self) -> F0Contour:
        """The contour clamped to `MIN_F0` … `MAX_F0`."""
        return F0Contour(self.log_f0.clamp(math.log2(MIN_F0), math.log2(MAX_F0)), self.voicing)

    def __getitem__(self, index: Tensor | slice | tuple[slice, slice]) -> F0Contour:
        """Some of the batch's items, or of the frames."""
        return F0Contour(self.log_f0[index], self.voicing[index])

    def detach(self) -> F0Contour:
        """The contour without gradients."""
        return F0Contour(self.log_f0.detach(), self.voicing.detach())

    def per_frame(self, frames: int) -> F0Contour:
        """One value for each of `frames` mel frames: in between, the mean of both neighbours."""

        def interpolate(x: Tensor) -> Tensor:
            following = torch.cat([x[:, 1:], x[:, -1:]], dim=1)
            return torch.stack([x, (x + following) / 2], dim=2).flatten(1)[:, :frames]

        return F0Contour(interpolate(self.log_f0), interpolate(self.voicing))

    def salience(self) -> Tensor:
        """Input of a network: a Gaussian over the bins around log F0, scaled by the voicing, (batch, frames, bins)."""
        position = to_bins(self.log_f0)
        offsets = torch.arange(F0_BINS, device=position.device, dtype=position.dtype) - position.unsqueeze(-1)
        return torch.exp(-0.5 * offsets.square()) * self.voicing.unsqueeze(-1)


class VoicedMoments:
    """The statistics of a contour (1, frames) that comes in parts, in a memory that does not grow with their number.

    Example:
        >>> contour = F0Contour(torch.tensor([[6.0, 7.0, 8.0]]), torch.ones(1, 3))
        >>> moments = VoicedMoments()
        >>> moments.add(contour[:, :1])
        >>> moments.add(contour[:, 1:])
        >>> moments.statistics().mean
        tensor([7.])
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None  # count, sum and sum of squares of log F0, (3, 1) float64

    def add(self, contour: F0Contour) -> None:
        """The next part."""
        voiced = (contour.voicing > 0.5).cpu().double()
        log_f0 = contour.log_f0.cpu().double()
        sums = torch.stack([voiced.sum(dim=1), (log_f0 * voiced).sum(dim=1), (log_f0.square() * voiced).sum(dim=1)])
        self._sums = sums if self._sums is None else self._sums + sums
        self._device = contour.log_f0.device

    def statistics(self) -> F0Statistics:
        """As `F0Contour.statistics` of all parts together."""
        count, total, squares = self._sums
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        return F0Statistics(mean.float(), std.float()).to(self._device)


def to_bins(log_f0: Tensor) -> Tensor:
    """log2 Hz → fractional bin, clamped to the range."""
    low, high = torch.log2(torch.tensor([MIN_F0, MAX_F0])).tolist()
    return ((log_f0 - low) / (high - low) * (F0_BINS - 1)).clamp(0, F0_BINS - 1)


def from_bins(position: Tensor) -> Tensor:
    """Fractional bin → log2 Hz."""
    low, high = torch.log2(torch.tensor([MIN_F0, MAX_F0])).tolist()
    return low + position / (F0_BINS - 1) * (high - low)


def yin(samples: Tensor, *, sample_rate: int, hop: int, threshold: float = 0.15) -> F0Contour:
    """Measure the F0 of waveforms (batch, samples) by YIN, one value every two mel frames of `hop` samples.

    De Cheveigné & Kawahara 2002 (doi:10.1121/1.1458024), steps 1 to 5, at half the sample rate, which is enough
    for F0. A frame is voiced where the normalized difference falls below 2 × `threshold`.
    """
    frames = -(-(samples.shape[-1] // hop) // F0_HOP)
    x = F.avg_pool1d(samples[:, None], 2, ceil_mode=True)[:, 0]
    rate, step, offset = sample_rate / 2, hop * F0_HOP // 2, hop // 4  # mel frame 2 i is centred on 2 i · hop + hop / 2
    max_lag = int(rate / MIN_F0) + 2
    min_lag = int(rate / MAX_F0)
    window = max_lag + max_lag // 2
    half = (window + max_lag) // 2
    x = F.pad(x, (half - offset, frames * step + 2 * half))
    x = x.unfold(-1, window + max_lag, step)[:, :frames]

    size = 1 << (2 * window + max_lag - 1).bit_length() >> 1
    size = size if size >= window + max_lag else size * 2
    spectrum = torch.fft.rfft(x, size)
    head = torch.fft.rfft(x[..., :window], size)
    correlation = torch.fft.irfft(spectrum * head.conj(), size)[..., :max_lag]
    energy = F.pad(x.square().cumsum(-1), (1, 0))
    energy = energy[..., window : window + max_lag] - energy[..., :max_lag]
    difference = (energy[..., :1] + energy - 2 * correlation).clamp(min=0)
    lags = torch.arange(1, max_lag, device=x.device)
    normalized = difference[..., 1:] * lags / difference[..., 1:].cumsum(-1).clamp(min=1e-9)
    normalized = F.pad(normalized, (1, 0), value=1.0)

    candidates = normalized[..., min_lag : max_lag - 1]
    is_minimum = (candidates <= normalized[..., min_lag - 1 : max_lag - 2]) & (
        candidates < normalized[..., min_lag + 1 : max_lag]
    )
    below_threshold = is_minimum & (candidates < threshold)
    first = torch.where(below_threshold.any(-1), below_threshold.float().argmax(-1), candidates.argmin(-1)) + min_lag

    def at(lag: Tensor) -> Tensor:
        return normalized.gather(-1, lag.unsqueeze(-1)).squeeze(-1)

    # The minimum of a parabola through three values.
    before, here, after = at(first - 1), at(first), at(first + 1)
    curvature = (before - 2 * here + after).clamp(min=1e-6)
    lag = first + (0.5 * (before - after) / curvature).clamp(-0.5, 0.5)
    frame_energy = energy[..., 0]
    audible = frame_energy > 1e-4 * frame_energy.amax(dim=-1, keepdim=True).clamp(min=1e-9)
    return F0Contour(torch.log2(rate / lag), ((here < 2 * threshold) & audible).float())


def shift_pitch(samples: np.ndarray, octaves: float, sample_rate: int) -> np.ndarray:
    """Samples (samples,) with F0 and formants raised by `octaves`, at the same length.

    Raises:
        VcvaeError: more than `MAX_SHIFT` octaves up or down.
    """
    if not abs(octaves) <= MAX_SHIFT:
        raise VcvaeError(
            f"F0 would be shifted by {octaves:.3g} octaves, and no two voices differ by so many; fit the model again."
        )
    if not octaves:
        return samples
    import librosa  # a second and a half, which conversions without it need not wait for

    return librosa.effects.pitch_shift(samples, sr=sample_rate, n_steps=12 * octaves).astype(np.float32)
