"""Slaney's mel scale and its filters (Auditory Toolbox, 1998), bit by bit as librosa computes them.

librosa itself takes a second and a half to import, which is a third of a short conversion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LINEAR_STEP = 200 / 3  # Hz per mel below BREAK
BREAK = 1000.0  # Hz, above which the scale is logarithmic
BREAK_MEL = BREAK / LINEAR_STEP
LOG_STEP = np.log(6.4) / 27  # natural-log units per mel above BREAK


def mel_frequencies(count: int, *, f_min: float, f_max: float) -> NDArray[np.float64]:
    """`count` frequencies from f_min to f_max in Hz, at equal distances on the mel scale.

    Example:
        >>> mel_frequencies(3, f_min=0, f_max=8000).round(1)
        array([   0. , 1688.9, 8000. ])
    """
    mels = np.linspace(_to_mel(f_min), _to_mel(f_max), count)
    frequencies = LINEAR_STEP * mels
    high = mels >= BREAK_MEL
    frequencies[high] = BREAK * np.exp(LOG_STEP * (mels[high] - BREAK_MEL))
    return frequencies


def mel_filters(n_mels: int, *, sample_rate: int, n_fft: int, f_min: float, f_max: float) -> NDArray[np.float32]:
    """Triangular filters of equal area, (n_mels, n_fft // 2 + 1), for the magnitudes of a Fourier transform."""
    edges = mel_frequencies(n_mels + 2, f_min=f_min, f_max=f_max)
    widths = np.diff(edges)
    distances = np.subtract.outer(edges, np.fft.rfftfreq(n_fft, 1 / sample_rate))
    filters = np.zeros((n_mels, n_fft // 2 + 1), np.float32)
    for i in range(n_mels):
        rising = -distances[i] / widths[i]
        falling = distances[i + 2] / widths[i + 1]
        filters[i] = np.maximum(0, np.minimum(rising, falling))
    filters *= (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters


def _to_mel(frequency: float) -> float:
    if frequency < BREAK:
        return frequency / LINEAR_STEP
    return BREAK_MEL + np.log(frequency / BREAK) / LOG_STEP
