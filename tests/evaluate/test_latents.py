from pathlib import Path

import numpy as np
import pytest

from vcvae.errors import VcvaeError
from vcvae.evaluate.latents import EACH, SPEAKERS, Latents, leakage, sample


def latents(*, leak, keep, speakers=8, each=20):
    random = np.random.default_rng(0)
    names = [f"s{n}" for n in range(speakers) for _ in range(each)]
    own = random.standard_normal((speakers, 16)).repeat(each, axis=0)
    content = random.standard_normal((len(names), 16, 50)) + leak * own[:, :, None]
    speaker = random.standard_normal((len(names), 16)) + keep * own
    speaker /= np.linalg.norm(speaker, axis=1, keepdims=True)
    return Latents(names, list(speaker.astype(np.float32)), list(content))


def test_latents_that_disentangle_hide_the_speaker_in_one_and_show_it_in_the_other():
    found = leakage(latents(leak=0, keep=10))
    assert found["probe_content"].chance == pytest.approx(1 / 8)
    assert found["probe_content"].value.low < 0.35
    assert found["probe_content"].value.mean < 0.3
    assert found["probe_speaker"].value.mean > 0.97
    assert found["retrieval"].value.mean > 0.97
    assert found["equal_error_rate"].value < 0.03


def test_latents_that_do_not_are_found_out():
    found = leakage(latents(leak=1, keep=0))
    assert found["probe_content"].value.low > 0.9
    for name in ("probe_speaker", "retrieval"):
        assert found[name].value.mean < 0.3
    assert found["equal_error_rate"].value == pytest.approx(0.5, abs=0.05)
    with pytest.raises(VcvaeError, match="two of them or more"):
        leakage(latents(leak=0, keep=1, speakers=1))


def test_what_mean_and_spread_do_not_tell_the_covariance_may():
    hidden = latents(leak=0, keep=1)
    told = [int(name[1:]) for name in hidden.speakers]
    # Two dimensions that swing together in the one half of the speakers, and against each other in the other.
    content = [np.stack([x[0], np.where(n % 2, x[0], -x[0])]) for n, x in zip(told, hidden.content, strict=True)]
    found = leakage(Latents(hidden.speakers, hidden.speaker, content))
    assert found["probe_content"].value.mean < 0.3
    assert found["probe_covariance"].value.mean > found["probe_content"].value.mean + 0.05
    assert leakage(hidden)["probe_covariance"].value.mean < 0.3


def test_a_sample_is_bounded_and_of_speakers_with_two_utterances():
    spoken = [(Path(f"{n}/{i}.flac"), f"{n:03d}") for n in range(SPEAKERS + 5) for i in range(EACH + n)] + [
        (Path("lonely.flac"), "lonely")
    ]
    drawn = sample(spoken, seed=3)
    assert drawn == sample(spoken, seed=3) != sample(spoken, seed=4)
    assert len(set(drawn)) == len(drawn) == SPEAKERS * EACH
    assert "lonely" not in {speaker for _, speaker in drawn}
    assert all(int(path.parent.name) == int(speaker) for path, speaker in drawn)
