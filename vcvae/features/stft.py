"""Short-time Fourier transform, its inverse, and filters; frame t is centred on sample t · hop + hop / 2.

The hop must divide the window, whose length is that of the transform.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_MEL_CORRECTION = 20.0  # largest gain, or its inverse, of one step of `toward_mel`; spares silent bins


def transform(samples: Tensor, window: Tensor, hop: int, *, mirrored: bool = False) -> Tensor:
    """Samples (batch, frames · hop) → complex spectra (batch, frames, bins).

    The signal is zero-padded, or, with `mirrored` and where it is long enough, reflect-padded as for the mel.
    """
    pad = (len(window) - hop) // 2
    mode = "reflect" if mirrored and samples.shape[-1] > pad else "constant"
    padded = F.pad(samples[:, None], (pad, pad), mode=mode)[:, 0]
    return torch.fft.rfft(padded.unfold(-1, len(window), hop) * window)


def inverse(spectra: Tensor, window: Tensor, hop: int) -> Tensor:
    """Complex spectra (batch, frames, bins) → the samples (batch, frames · hop) with the nearest spectra.

    Griffin & Lim 1984, eq. 6: windowed again, overlap-added, and divided by the sum of the squared windows.
    """
    frames = torch.fft.irfft(spectra, len(window)) * window
    power = window.square().expand(1, frames.shape[1], -1)
    return _overlap_add(frames, hop) / _overlap_add(power, hop)


def toward_mel(magnitude: Tensor, mel: Tensor, filters: Tensor, *, floor: float = 1e-5) -> Tensor:
    """Magnitudes (…, bins, frames) → the same detail with a mel nearer to `mel` (…, n_mels, frames).

    One multiplicative update for the Kullback-Leibler divergence (Lee & Seung 2001, "Algorithms for non-negative
    matrix factorization"). Mels are magnitudes, not logarithms; `filters` (n_mels, bins). Bins outside all bands are
    unchanged.
    """
    bins = filters.sum(dim=0)[:, None]
    ratio = (mel / (filters @ magnitude).clamp(min=floor)).clamp(1 / MAX_MEL_CORRECTION, MAX_MEL_CORRECTION)
    return magnitude * torch.where(bins > 0, filters.T @ ratio / bins.clamp(min=1e-9), 1.0)


def minimum_phase(log_gain: Tensor) -> Tensor:
    """Log-gains (…, bins) → the phases of the minimum-phase filter, (…, bins).

    By folding the cepstrum onto its causal half: Oppenheim & Schafer, Discrete-Time Signal Processing, ch. 13.
    """
    length = 2 * (log_gain.shape[-1] - 1)
    fold = torch.zeros(length, device=log_gain.device, dtype=log_gain.dtype)
    fold[0] = fold[length // 2] = 1
    fold[1 : length // 2] = 2
    return torch.fft.rfft(torch.fft.irfft(log_gain, length) * fold).imag


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """(batch, frames, length) → (batch, frames · hop); samples before the first and after the last hop are cut."""
    batch, count, length = frames.shape
    parts = length // hop
    slots = frames.reshape(batch, count, parts, hop)
    whole = sum(F.pad(slots[:, :, i], (0, 0, i, parts - 1 - i)) for i in range(parts)).flatten(1)
    start = (length - hop) // 2
    return whole[:, start : start + count * hop]


def low_pass(samples: Tensor, bandwidth: Tensor, sample_rate: int) -> Tensor:
    """Remove from samples (batch, samples) the frequencies above each item's bandwidth (batch,), in Hz."""
    spectrum = torch.fft.rfft(samples)
    frequencies = torch.linspace(0, sample_rate / 2, spectrum.shape[-1], device=samples.device)
    return torch.fft.irfft(spectrum * (frequencies <= bandwidth[:, None]), samples.shape[-1])


def moving_average(values: Tensor, count: int) -> Tensor:
    """(batch, channels, frames) → the mean over `count` frames around each, an odd number; ends are repeated."""
    return F.avg_pool1d(F.pad(values, (count // 2, count // 2), mode="replicate"), count, stride=1)
