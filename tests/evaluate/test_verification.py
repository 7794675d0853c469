from pathlib import Path

import numpy as np
import pytest
import torch

from vcvae.evaluate import Case
from vcvae.evaluate.measures import Similarity
from vcvae.evaluate.verification import Enrolment, enrolments, verify
from vcvae.metrics.speakers import equal_error


class Angles(Similarity):
    """Embeddings in a plane: a recording's name holds its angle in degrees."""

    def __init__(self):
        super().__init__("angles", None)
        self.embed = lambda path: np.array([np.cos(np.radians(float(path.stem))), np.sin(np.radians(float(path.stem)))])


def paths(*angles):
    return tuple(Path(f"{angle}.wav") for angle in angles)


def test_verify_compares_each_recording_with_the_mean_of_the_others():
    trials = [Enrolment(paths(0, 20), paths(90)), Enrolment(paths(90, 110), paths(0))]
    case = Case("1", Path("90.wav"), paths(0, 20))
    near, far = paths(30, 80)
    result = verify(Angles(), trials, [(case, near), (case, far)])
    assert result.same_speaker.mean == pytest.approx(np.cos(np.radians(20)))
    assert result.same_speaker.count == 4
    expected = [np.cos(np.radians(80)), np.cos(np.radians(100))]
    assert result.strangers.mean == pytest.approx(np.mean(expected))
    assert result.equal_error_rate == 0
    assert np.cos(np.radians(80)) < result.threshold <= np.cos(np.radians(20)) + 1e-6
    assert result.accepted.mean == 0.5  # 20° from the mean of the targets, and 70°


def test_verify_gives_none_without_trials_of_both_kinds():
    case = Case("1", Path("90.wav"), paths(0))
    assert verify(Angles(), enrolments([case], []), [(case, Path("5.wav"))]) is None


def test_enrolments_are_of_the_corpus_or_of_each_case():
    corpus = [(Path(f"{speaker}{i}.wav"), speaker) for speaker in "abc" for i in range(6 if speaker != "c" else 1)]
    first, second = enrolments([], corpus)  # one utterance is no speaker
    assert first.recordings == tuple(Path(f"a{i}.wav") for i in range(4))
    assert first.strangers == (Path("b0.wav"),)
    assert second.strangers == (Path("a0.wav"),)
    case = Case("1", Path("s.wav"), paths(0, 20))
    assert enrolments([case], []) == [Enrolment(case.targets, (case.source,))]


@pytest.mark.parametrize(
    ("genuine", "impostor", "rate", "threshold"),
    [([0.8, 0.9], [0.1, 0.2], 0.0, 0.5), ([0.3, 0.9], [0.1, 0.5], 0.5, 0.4), ([0.5], [0.5], 0.5, 0.5)],
)
def test_equal_error_is_at_its_threshold(genuine, impostor, rate, threshold):
    result = equal_error(torch.tensor(genuine), torch.tensor(impostor))
    assert result == (rate, pytest.approx(threshold))
    missed = np.mean(np.array(genuine, np.float32) < result.threshold)
    accepted = np.mean(np.array(impostor, np.float32) >= result.threshold)
    assert (missed + accepted) / 2 == rate
