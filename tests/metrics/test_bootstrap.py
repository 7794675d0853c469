import math

import numpy as np
import pytest

from vcvae.metrics.bootstrap import Interval, Ratio, interval


def test_interval_has_the_theoretical_width():
    values = np.random.default_rng(0).normal(3, 2, 400).tolist()
    result = interval(values)
    assert result.mean == pytest.approx(np.mean(values))
    half = 1.96 * np.std(values) / math.sqrt(400)
    assert result.low == pytest.approx(result.mean - half, abs=0.03)
    assert result.high == pytest.approx(result.mean + half, abs=0.03)
    assert result == interval(values) != interval(values, seed=1)
    assert interval([0.5] * 7) == Interval(0.5, 0.5, 0.5, 7)


def test_interval_weights_ratios_by_their_totals():
    assert interval([Ratio(1, 2), Ratio(0, 98)]).mean == pytest.approx(0.01)
    assert interval([Ratio(3, 10), Ratio(0, 0)]).count == 1


def test_interval_ignores_nan():
    assert interval([1.0, math.nan, 3.0])[::3] == (2.0, 2)
    assert interval([math.nan]) is interval([]) is None
