"""Equal errors and distinctiveness on embeddings whose answer is known."""

import numpy as np
import pytest

from vcvae.errors import VcvaeError
from vcvae.metrics.anonymization import trial_scores, verification_error, voice_distinctiveness_gain

SPEAKERS = [f"{n // 6}" for n in range(60)]


def embeddings(spread, *, seed=0):
    """Ten speakers of six utterances each, `spread` apart."""
    random = np.random.default_rng(seed)
    points = np.repeat(random.standard_normal((10, 32)), 6, axis=0) * spread + random.standard_normal((60, 32))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_verification_error_is_none_for_distinct_and_half_for_equal_speakers():
    distinct, equal = embeddings(3.0), embeddings(0.0)
    assert verification_error(distinct[::2], SPEAKERS[::2], distinct[1::2], SPEAKERS[1::2]) < 0.02
    assert verification_error(equal[::2], SPEAKERS[::2], equal[1::2], SPEAKERS[1::2]) == pytest.approx(0.5, abs=0.12)


def test_trial_scores_are_cosines_with_the_mean_of_the_enrolled():
    enrolment = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    genuine, impostor = trial_scores(enrolment, ["a", "a", "b"], np.array([[1.0, 0.0]]), ["a"])
    assert genuine.tolist() == pytest.approx([2**-0.5])
    assert impostor.tolist() == pytest.approx([0.0])


def test_distinctiveness_gain_is_zero_for_the_same_and_negative_for_voices_that_are_alike():
    original = embeddings(1.5)
    assert voice_distinctiveness_gain(original, original, SPEAKERS) == pytest.approx(0)
    assert voice_distinctiveness_gain(original, original[::-1], SPEAKERS[::-1]) == pytest.approx(0)
    assert voice_distinctiveness_gain(original, embeddings(0.3), SPEAKERS) < -5
    assert voice_distinctiveness_gain(embeddings(0.5), embeddings(2.0), SPEAKERS) > 1


def test_anonymization_metrics_refuse_too_few_speakers():
    points = embeddings(1.0)
    with pytest.raises(VcvaeError, match="two speakers or more"):
        verification_error(points[:3], ["a"] * 3, points[3:6], ["a"] * 3)
    with pytest.raises(VcvaeError, match="two speakers or more"):
        voice_distinctiveness_gain(points[:3], points[3:6], ["a", "a", "b"])
