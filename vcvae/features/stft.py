"""Short-time spectra and back, in the project's framing: frame t is centred on sample t · hop + hop / 2.

The hop must divide the window, and the window is the transform's length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FARTHEST = 20.0  # the largest gain, or its inverse, of one step towards a mel: what is silent is not to be torn up


def transform(samples: Tensor, window: Tensor, hop: int, *, mirrored: bool = False) -> Tensor:
    """Samples (batch, frames · hop) → complex spectra (batch, frames, bins).

    Beyond its ends the signal is silent, or, if it is longer than what is missing there, `mirrored`, as for the mel.
    """
    pad = (len(window) - hop) // 2
    mode = "reflect" if mirrored and samples.shape[-1] > pad else "constant"
    padded = F.pad(samples[:, None], (pad, pad), mode=mode)[:, 0]
    return torch.fft.rfft(padded.unfold(-1, len(window), hop) * window)


def inverse(spectra: Tensor, window: Tensor, hop: int) -> Tensor:
    """Complex spectra (batch, frames, bins) → the samples (batch, frames · hop) whose spectra are nearest to them.

    Griffin & Lim 1984, eq. 6: windowed once more, overlapped, added, and divided by the sum of the squared windows.
    """
    frames = torch.fft.irfft(spectra, len(window)) * window
    power = window.square().expand(1, frames.shape[1], -1)
    return _overlap_add(frames, hop) / _overlap_add(power, hop)


def toward_mel(magnitude: Tensor, mel: Tensor, filters: Tensor, *, floor: float = 1e-5) -> Tensor:
    """Magnitudes (…, bins, frames) → magnitudes of the same detail, whose mel is nearer to `mel` (…, n_mels, frames).

    A multiplicative update for the Kullback-Leibler divergence (Lee and Seung 2001, "Algorithms for non-negative matrix
    factorization"). Mels are magnitudes, not logarithms; `filters` (n_mels, bins). Bins that no band covers are kept.
    """
    bins = filters.sum(dim=0)[:, None]
    wanted = (mel / (filters @ magnitude).clamp(min=floor)).clamp(1 / FARTHEST, FARTHEST)
    return magnitude * torch.where(bins > 0, filters.T @ wanted / bins.clamp(min=1e-9), 1.0)


def minimum_phase(log_gain: Tensor) -> Tensor:
    """Log-gains (…, bins) → the phases of the filter whose energy comes earliest, (…, bins), as a vocal tract's does.

    Through the cepstrum, folded onto its causal half: Oppenheim & Schafer, Discrete-Time Signal Processing, ch. 13.
    """
    length = 2 * (log_gain.shape[-1] - 1)
    fold = torch.zeros(length, device=log_gain.device, dtype=log_gain.dtype)
    fold[0] = fold[length // 2] = 1
    fold[1 : length // 2] = 2
    return torch.fft.rfft(torch.fft.irfft(log_gain, length) * fold).imag


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """(batch, frames, length) → (batch, frames · hop), what reaches beyond the first and last hop cut away."""
    batch, count, length = frames.shape
    parts = length // hop
    slots = frames.reshape(batch, count, parts, hop)
    whole = sum(F.pad(slots[:, :, i], (0, 0, i, parts - 1 - i)) for i in range(parts)).flatten(1)
    start = (length - hop) // 2
    return whole[:, start : start + count * hop]


def low_pass(samples: Tensor, bandwidth: Tensor, sample_rate: int) -> Tensor:
    """Without what lies above each item's bandwidth (batch,), in Hz: what is unknown is not to be judged."""
    spectrum = torch.fft.rfft(samples)
    frequencies = torch.linspace(0, sample_rate / 2, spectrum.shape[-1], device=samples.device)
    return torch.fft.irfft(spectrum * (frequencies <= bandwidth[:, None]), samples.shape[-1])


def moving_average(values: Tensor, count: int) -> Tensor:
    """(batch, channels, frames) → each the mean of `count` frames around it, an odd number; ends are held."""
    return F.avg_pool1d(F.pad(values, (count // 2, count // 2), mode="replicate"), count, stride=1)
