import numpy as np
import pytest
import torch

from vcvae.errors import VcvaeError
from vcvae.metrics.speakers import equal_error_rate, probe, retrieval


def test_equal_error_rate():
    assert equal_error_rate(torch.tensor([0.8, 0.9]), torch.tensor([0.1, 0.2, 0.3])) == 0
    assert equal_error_rate(torch.tensor([0.1, 0.2]), torch.tensor([0.8, 0.9])) == 1
    generator = torch.Generator().manual_seed(0)
    genuine, impostor = 2 + torch.randn(20000, generator=generator), torch.randn(20000, generator=generator)
    assert equal_error_rate(genuine, impostor) == pytest.approx(0.1587, abs=0.01)  # Φ(-1)


@pytest.mark.parametrize("cue", ["mean", "std", "none"])
def test_probe_detects_speakers_by_mean_or_std_only(cue):
    random = np.random.default_rng(0)
    speakers = np.repeat([f"s{i}" for i in range(8)], 20)
    latents = random.standard_normal((160, 6, 100))
    of_speaker = random.standard_normal((8, 6, 1)).repeat(20, axis=0)
    latents = {"mean": latents + of_speaker, "std": latents * np.exp(of_speaker), "none": latents}[cue]
    result = probe(list(latents), list(speakers))
    assert result.chance == pytest.approx(1 / 8)
    assert result.accuracy > 0.95 if cue != "none" else result.accuracy < 0.3


def test_probe_takes_vectors_and_names_what_it_lacks():
    result = probe(list(np.repeat(np.eye(3), 4, axis=0)), ["a"] * 4 + ["b"] * 4 + ["c"] * 4)
    assert (result.accuracy, result.chance) == (1.0, pytest.approx(1 / 3))
    for speakers in (["a", "a"], ["a", "b"]):
        with pytest.raises(VcvaeError, match="two utterances or more of each"):
            probe([np.zeros(3)] * 2, speakers)


def test_retrieval_in_closed_form():
    """Two speakers on a circle, at 0 and 10 and at 90 and 100 degrees; then one of the first strays to the others."""

    def at(*degrees):
        return [np.array([np.cos(x), np.sin(x)]) for x in np.radians(degrees)]

    result = retrieval(at(0, 10, 90, 100), ["a", "a", "b", "b"])
    assert (result.equal_error_rate, result.correct) == (0, (True,) * 4)
    assert result.chance == pytest.approx(1 / 3)
    assert retrieval(at(0, 95, 90, 100), ["a", "a", "b", "b"]).correct == (False, False, False, False)
    with pytest.raises(VcvaeError, match="two utterances or more of each"):
        retrieval(at(0, 1, 2), ["a", "a", "b"])
