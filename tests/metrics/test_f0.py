import math

import numpy as np
import pytest

from tests.synthetic import RATE, speak
from vcvae.metrics.f0 import f0_correlation


def test_f0_correlation_is_one_for_the_same_contour_in_any_voice_and_near_zero_for_others():
    utterances = [speak("aeioua", f0=120, seconds=2.5, seed=seed) for seed in range(5)]
    assert f0_correlation(utterances[0], utterances[0], sample_rate=RATE) == pytest.approx(1)
    higher = speak("aeioua", f0=190, tract=1.15, seconds=2.5, seed=0)
    assert f0_correlation(utterances[0], higher, sample_rate=RATE) > 0.95
    unrelated = [f0_correlation(a, b, sample_rate=RATE) for a in utterances for b in utterances if a is not b]
    assert abs(np.mean(unrelated)) < 0.2


def test_f0_correlation_is_nan_with_too_few_voiced_frames_in_common():
    assert math.isnan(f0_correlation(speak("aei"), speak("sfs"), sample_rate=RATE))
    assert math.isnan(f0_correlation(speak("aei"), speak("aei", seconds=0.2), sample_rate=RATE))
