"""The correlation of two F0 contours."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from vcvae.features.f0 import yin

MIN_COMMON_FRAMES = 20  # F0 frames (0.5 s) voiced in both recordings, below which they are not compared


def f0_correlation(a: NDArray[np.floating], b: NDArray[np.floating], *, sample_rate: int, hop: int = 256) -> float:
    """Pearson correlation of the log-F0 of two recordings (samples,), over the frames in which both are voiced.

    NaN where fewer than `MIN_COMMON_FRAMES` frames are voiced in both, or where one F0 contour is constant.
    """
    contour_a = yin(torch.from_numpy(a)[None].float(), sample_rate=sample_rate, hop=hop)
    contour_b = yin(torch.from_numpy(b)[None].float(), sample_rate=sample_rate, hop=hop)
    frames = min(contour_a.voicing.shape[1], contour_b.voicing.shape[1])
    voiced = ((contour_a.voicing[:, :frames] > 0.5) & (contour_b.voicing[:, :frames] > 0.5))[0]
    log_f0_a = contour_a.log_f0[0, :frames][voiced].double().numpy()
    log_f0_b = contour_b.log_f0[0, :frames][voiced].double().numpy()
    if len(log_f0_a) < MIN_COMMON_FRAMES or min(log_f0_a.std(), log_f0_b.std()) < 1e-6:
        return math.nan
    return float(np.corrcoef(log_f0_a, log_f0_b)[0, 1])
