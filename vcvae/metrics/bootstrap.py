"""Means with bootstrap confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Ratio(NamedTuple):
    """A count and its total, such as wrong words of all words; means weight each case by its total."""

    part: float
    whole: float


class Interval(NamedTuple):
    """A mean, the bounds of its 95 % bootstrap interval, and the number of values."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval(values: Sequence[float | Ratio], *, seed: int = 0, resamples: int = 2000) -> Interval | None:
    """The mean of the finite values, with a percentile bootstrap interval: Efron 1979 (doi:10.1214/aos/1176344552).

    None where no value is finite.

    Example:
        >>> interval([1.0, 2.0, 3.0]).mean, interval([Ratio(1, 2), Ratio(0, 6)]).mean
        (2.0, 0.125)
    """
    pairs = [v if isinstance(v, Ratio) else Ratio(v, 1) for v in values if not isinstance(v, float) or math.isfinite(v)]
    if not sum(whole for _, whole in pairs):
        return None
    part, whole = np.array([pair for pair in pairs if pair.whole], float).T
    resampled = np.random.default_rng(seed).integers(len(part), size=(resamples, len(part)))
    means = part[resampled].sum(axis=1) / whole[resampled].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(part.sum() / whole.sum()), float(low), float(high), len(part))
