from pathlib import Path

import numpy as np
import pytest

from vcvae.errors import VcvaeError
from vcvae.evaluate.latents import (
    MAX_PROBE_SPEAKERS,
    MAX_PROBE_UTTERANCES,
    UtteranceLatents,
    measure_latents,
    sample_utterances,
)


def latents(*, leak, keep, speakers=8, each=20):
    random = np.random.default_rng(0)
    names = [f"s{n}" for n in range(speakers) for _ in range(each)]
    own = random.standard_normal((speakers, 16)).repeat(each, axis=0)
    content = random.standard_normal((len(names), 16, 50)) + leak * own[:, :, None]
    speaker = random.standard_normal((len(names), 16)) + keep * own
    speaker /= np.linalg.norm(speaker, axis=1, keepdims=True)
    return UtteranceLatents(names, list(speaker.astype(np.float32)), list(content))


def test_measure_latents_of_disentangled_latents():
    metrics = measure_latents(latents(leak=0, keep=10))
    assert metrics["probe_content"].chance == pytest.approx(1 / 8)
    assert metrics["probe_content"].value.low < 0.35
    assert metrics["probe_content"].value.mean < 0.3
    assert metrics["probe_speaker"].value.mean > 0.97
    assert metrics["retrieval"].value.mean > 0.97
    assert metrics["equal_error_rate"].value < 0.03


def test_measure_latents_of_entangled_latents():
    metrics = measure_latents(latents(leak=1, keep=0))
    assert metrics["probe_content"].value.low > 0.9
    for name in ("probe_speaker", "retrieval"):
        assert metrics[name].value.mean < 0.3
    assert metrics["equal_error_rate"].value == pytest.approx(0.5, abs=0.05)
    with pytest.raises(VcvaeError, match="two speakers or more"):
        measure_latents(latents(leak=0, keep=1, speakers=1))


def test_measure_latents_probes_covariances_apart_from_means():
    hidden = latents(leak=0, keep=1)
    numbers = [int(name[1:]) for name in hidden.speakers]
    # Two dimensions, correlated for half of the speakers and anticorrelated for the others.
    content = [np.stack([x[0], np.where(n % 2, x[0], -x[0])]) for n, x in zip(numbers, hidden.content, strict=True)]
    metrics = measure_latents(UtteranceLatents(hidden.speakers, hidden.speaker, content))
    assert metrics["probe_content"].value.mean < 0.3
    assert metrics["probe_covariance"].value.mean > metrics["probe_content"].value.mean + 0.05
    assert measure_latents(hidden)["probe_covariance"].value.mean < 0.3


def test_sample_utterances_is_bounded_and_needs_two_per_speaker():
    utterances = [
        (Path(f"{n}/{i}.flac"), f"{n:03d}")
        for n in range(MAX_PROBE_SPEAKERS + 5)
        for i in range(MAX_PROBE_UTTERANCES + n)
    ]
    utterances.append((Path("single.flac"), "single"))
    sampled = sample_utterances(utterances, seed=3)
    assert sampled == sample_utterances(utterances, seed=3) != sample_utterances(utterances, seed=4)
    assert len(set(sampled)) == len(sampled) == MAX_PROBE_SPEAKERS * MAX_PROBE_UTTERANCES
    assert "single" not in {speaker for _, speaker in sampled}
    assert all(int(path.parent.name) == int(speaker) for path, speaker in sampled)
