import math

import numpy as np
import pytest

from vcvae.metrics.bootstrap import Interval, Ratio, interval


def test_an_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(3, 2, 400).tolist()
    found = interval(values)
    assert found.mean == pytest.approx(np.mean(values))
    half = 1.96 * np.std(values) / math.sqrt(400)
    assert found.low == pytest.approx(found.mean - half, abs=0.03)
    assert found.high == pytest.approx(found.mean + half, abs=0.03)
    assert found == interval(values) != interval(values, seed=1)
    assert interval([0.5] * 7) == Interval(0.5, 0.5, 0.5, 7)


def test_ratios_weigh_by_what_they_count():
    assert interval([Ratio(1, 2), Ratio(0, 98)]).mean == pytest.approx(0.01)
    assert interval([Ratio(3, 10), Ratio(0, 0)]).count == 1


def test_what_is_not_known_does_not_count():
    assert interval([1.0, math.nan, 3.0])[::3] == (2.0, 2)
    assert interval([math.nan]) is interval([]) is None
