"""The level of what is synthesized: that of the source, no louder than it in pauses, and peaks within full scale.

Levels are in nepers: natural logarithms of amplitudes.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.features.mel import level

CEILING = 0.99  # of full scale; no sample exceeds it
SLOW_SECONDS, FAST_SECONDS = 0.01, 0.001  # over which the limiter's two gains change
SLOW_REDUCTION = 0.5  # smallest slow gain; a peak that needs a smaller one is reduced by the fast gain as well
LIMITER_ROUNDS = 8  # in which the level is restored that the reduction of peaks takes away
LEVEL_SECONDS = 0.5  # over which the limiter keeps the level

PAUSE_THRESHOLD = 3.5  # nepers (30 dB) below the mean level, under which a source is taken to pause
SMOOTHING_FRAMES = 5  # mel frames over which the level is averaged to find pauses: 58 ms


def attenuate_pauses(
    converted: Tensor,
    source_mel: Tensor,
    *,
    source_level: Tensor | float | None = None,
    converted_level: Tensor | float | None = None,
) -> Tensor:
    """Make a conversion as quiet as its source where the source pauses; ln-mels (batch, n_mels, frames).

    A decoder gives the mean of the noises that it was trained on, which is louder than a quiet recording's pauses.
    Levels, in nepers, are those of the whole, where the mels are parts of it; by default, those of the mels.
    """
    source_level = _frame_levels(source_mel) - (level(source_mel) if source_level is None else source_level)
    converted_level = _frame_levels(converted) - (level(converted) if converted_level is None else converted_level)
    weight = (-PAUSE_THRESHOLD - source_level).clamp(0, 1)  # rises over one neper, so that nothing is cut off abruptly
    return converted + weight * (source_level - converted_level).clamp(max=0)


def match_level(converted: np.ndarray, source: np.ndarray, sample_rate: int) -> np.ndarray:
    """Converted samples (samples,) with the variance of the source's, limited to full scale. Offsets do not count."""
    gain = np.sqrt(max(source.var(dtype=float), 1e-12) / max(converted.var(dtype=float), 1e-12))
    return limit(converted * np.float32(gain), sample_rate)


def limit(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Samples (samples,) with peaks reduced to `CEILING`, and nearly the power of before in each half second.

    A gain goes down before a peak and up after it without a corner: the minimum of what all samples nearby need is
    averaged over the same window. Large reductions are left to a second, faster gain. What the level loses is restored
    by a gain before the reduction, in several rounds. Samples that do not exceed the ceiling are unchanged.
    """
    if np.abs(samples).max(initial=0) <= CEILING:
        return samples

    def power(values: np.ndarray) -> np.ndarray:
        return scipy.ndimage.uniform_filter1d(np.square(values, dtype=float), round(LEVEL_SECONDS * sample_rate))

    target_power = power(samples) + 1e-12
    gain = np.ones(len(samples))
    for _ in range(LIMITER_ROUNDS):
        limited = _reduce_peaks(samples * gain, sample_rate)
        deficit = target_power / (power(limited) + 1e-12)
        if deficit.max() < 1.01:
            break
        gain = (gain * deficit).clip(min=1)  # twice the loss in decibels: most of what is added is lost again
    return limited.astype(np.float32)


def _reduce_peaks(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    slow = _reduction(samples, round(SLOW_SECONDS * sample_rate), SLOW_REDUCTION)
    fast = _reduction(samples * slow, round(FAST_SECONDS * sample_rate), 0.0)
    return samples * slow * fast


def _reduction(samples: np.ndarray, window: int, smallest: float) -> np.ndarray:
    """The smooth gain, at least `smallest`, that reduces all peaks to the ceiling."""
    window = window // 2 * 2 + 1
    needed = (CEILING / np.maximum(np.abs(samples), CEILING)).clip(min=smallest)
    minimum = scipy.ndimage.minimum_filter1d(needed, window, mode="nearest")
    weight = np.hanning(window + 2)[1:-1]
    return scipy.ndimage.convolve1d(minimum, weight / weight.sum(), mode="nearest")


def _frame_levels(mel: Tensor) -> Tensor:
    """The smoothed level of each frame, in nepers, (batch, 1, frames)."""
    frames = torch.exp(2 * mel).sum(dim=1, keepdim=True).log() / 2
    # Not `moving_average`: at the ends the window shrinks, where repeating a single end frame would count it thrice.
    return F.avg_pool1d(frames, SMOOTHING_FRAMES, 1, SMOOTHING_FRAMES // 2, count_include_pad=False)
