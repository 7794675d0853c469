"""Short-time spectra and back, in the project's framing: frame t is centred on sample t · hop + hop / 2.

The hop must divide the window, and the window is the transform's length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def transform(samples: Tensor, window: Tensor, hop: int) -> Tensor:
    """Samples (batch, frames · hop), silent beyond their ends → complex spectra (batch, frames, bins)."""
    pad = (len(window) - hop) // 2
    return torch.fft.rfft(F.pad(samples, (pad, pad)).unfold(-1, len(window), hop) * window)


def inverse(spectra: Tensor, window: Tensor, hop: int) -> Tensor:
    """Complex spectra (batch, frames, bins) → the samples (batch, frames · hop) whose spectra are nearest to them.

    Griffin & Lim 1984, eq. 6: windowed once more, overlapped, added, and divided by the sum of the squared windows.
    """
    frames = torch.fft.irfft(spectra, len(window)) * window
    power = window.square().expand(1, frames.shape[1], -1)
    return _overlap_add(frames, hop) / _overlap_add(power, hop)


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
