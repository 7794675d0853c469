import math

import numpy as np
import pytest
import soundfile as sf

from tests.synthetic import RATE, speak
from vcvae.errors import VcvaeError
from vcvae.evaluate import Case
from vcvae.evaluate.measures import Distortion, F0Correlation, Quality, Similarity, Value, WordErrors
from vcvae.features.mel import MelConfig
from vcvae.metrics.bootstrap import Ratio


@pytest.fixture
def case(tmp_path):
    """A source, two targets, a reference; and a conversion that is the reference at another level."""
    voices = {
        "source": speak("aiueo", f0=110),
        "target": speak("oeaui", f0=210, tract=1.2),
        "another": speak("uuaee", f0=210, tract=1.2),
        "reference": speak("aiueo", f0=210, tract=1.2),
        "conversion": 0.7 * speak("aiueo", f0=210, tract=1.2),
    }
    for name, samples in voices.items():
        sf.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    paths = {name: tmp_path / f"{name}.wav" for name in voices}
    targets = (paths["target"], paths["another"])
    return Case("1", paths["source"], targets, "hello you", paths["reference"]), paths["conversion"]


def test_f0_correlation_measures_the_conversion_against_the_source(case):
    full_case, conversion = case
    value = F0Correlation(MelConfig())(full_case, conversion)["f0_correlation"]
    assert value.conversion > 0.9  # the same contour, an octave higher
    assert math.isnan(value.source)


def test_distortion_needs_a_reference_and_is_small_for_the_same_words_and_voice(case):
    full_case, conversion = case
    measure = Distortion(MelConfig())
    value = measure(full_case, conversion)["distortion"]
    assert value.conversion < 1 < 8 < value.source  # not 0: the level changes what lies at the mel's floor
    assert measure(Case("1", full_case.source, full_case.targets), conversion) == {}


def test_distortion_aligns_no_long_recordings(case, monkeypatch):
    monkeypatch.setattr("vcvae.evaluate.measures.MAX_ALIGNED_SECONDS", 0.5)
    with pytest.raises(VcvaeError, match=r"reference\.wav: 1 s long; recordings of at most"):
        Distortion(MelConfig())(*case)


def test_similarity_is_the_cosine_with_the_mean_of_the_targets(case, tmp_path):
    embeddings = {"source": (1, 0, 0), "target": (0, 2, 0), "another": (0, 0, 5), "conversion": (3, 3, 0)}
    loudness = {sf.read(tmp_path / f"{name}.wav")[0].std().round(4): name for name in embeddings}

    def embed(samples):
        assert samples.shape == (16000,)
        nearest = min(loudness, key=lambda level: abs(level - samples.std()))
        return np.array(embeddings[loudness[nearest]], float)

    values = Similarity("fake", embed)(*case)
    assert values["fake_target"].conversion == pytest.approx(0.5)  # (1, 1, 0)/√2 · (0, 1, 1)/√2
    assert values["fake_target"].source == pytest.approx(0)
    assert values["fake_source"].conversion == pytest.approx(1 / math.sqrt(2))


def test_word_errors_are_counted_against_the_transcript_or_the_source(case):
    texts = iter(["Hello, me!", "HELLO YOU"])  # of the conversion, and of the source
    measure = WordErrors(
        "fake", lambda samples: next(texts), lambda text: "".join(c for c in text.lower() if c not in ",!")
    )
    values = measure(*case)
    assert values["word_errors"] == Value(Ratio(1, 2), Ratio(0, 2))
    assert values["character_errors"] == Value(Ratio(3, 9), Ratio(0, 9))
    full_case, conversion = case
    without_transcript = Case("2", full_case.source, full_case.targets)
    value = measure(without_transcript, conversion)["word_errors"]  # from the cache: each is transcribed once
    assert value.conversion == Ratio(1, 2)
    assert math.isnan(value.source)


def test_quality_is_of_conversion_and_source(case):
    values = Quality({"level": "level"}, lambda samples: {"level": float(np.abs(samples).max()), "more": 0.0})(*case)
    assert list(values) == ["level"]
    assert values["level"].conversion < 0.8 * values["level"].source
