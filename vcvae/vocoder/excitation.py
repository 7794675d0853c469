"""The excitation of a source-filter model: pulses at F0, and noise, stationary or in phase with the pulses.

All have unit power and a flat spectrum, so that a filter's gain is the spectrum of what comes out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHARPNESS = 3.0  # of the aspiration noise: half of its power lies in a fifth of the cycle


def fundamental(log_f0: Tensor, *, hop: int) -> Tensor:
    """Contours in log2 Hz (batch, frames), frame t centred on sample t · hop + hop / 2 → F0 in Hz, (batch, samples)."""
    before = torch.cat([log_f0[:, :1], log_f0[:, :-1]], dim=1)
    after = torch.cat([log_f0[:, 1:], log_f0[:, -1:]], dim=1)
    position = (torch.arange(hop, device=log_f0.device) + 0.5) / hop - 0.5
    neighbour = torch.where(position < 0, before[..., None], after[..., None])
    return torch.exp2(torch.lerp(log_f0[..., None], neighbour, position.abs().to(log_f0))).flatten(1)


def phase(f0: Tensor, *, sample_rate: int, hop: int) -> Tensor:
    """F0 in Hz (batch, frames · hop) → the phase after each sample, in cycles.

    Whole cycles are dropped frame by frame, so that float32 stays fine enough for the hundredth harmonic.
    """
    within = (f0 / sample_rate).unflatten(1, (-1, hop)).cumsum(dim=2)
    total = within[..., -1] % 1.0
    return (within + (total.cumsum(dim=1) - total)[..., None]).flatten(1)


def pulses(f0: Tensor, phase: Tensor, *, sample_rate: int) -> Tensor:
    """F0 in Hz and phase in cycles, (batch, samples) → all harmonics below half the sample rate, (batch, samples).

    The sum of K cosines is Dirichlet's kernel. The harmonic that crosses half the sample rate fades, so that none
    appears at once.
    """
    angle = (2 * math.pi * ((phase + 0.5) % 1.0 - 0.5)).to(f0)
    count = sample_rate / 2 / f0
    whole = count.floor()
    half = torch.sin(angle / 2)
    at_peak = half.abs() < 1e-5
    kernel = torch.sin((whole + 0.5) * angle) / (2 * half.masked_fill(at_peak, 1.0)) - 0.5
    kernel = torch.where(at_peak, whole, kernel) + (count - whole) * torch.cos((whole + 1) * angle)
    return kernel * torch.sqrt(2 / count)


def aspiration(noise: Tensor, phase: Tensor) -> Tensor:
    """White noise (batch, samples) modulated in phase with the pulses: the aspiration noise of a voice.

    Stationary noise is perceived as separate from the voice; the noise of a voice is modulated within each cycle
    (Stylianou 2001, doi:10.1109/89.890068, section II). The envelope is von Mises's curve.
    """
    angle = (2 * math.pi * (phase % 1.0)).to(noise)
    sharpness = torch.tensor(2 * SHARPNESS, device=noise.device)
    return noise * torch.exp(SHARPNESS * (torch.cos(angle) - 1)) / torch.special.i0e(sharpness).sqrt()
