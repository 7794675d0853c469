import math

import numpy as np
import pytest
import soundfile as sf

from tests.synthetic import speak
from vcvae.evaluate import Case, f0_correlation
from vcvae.evaluate.measures import Distortion, Quality, Similarity, Value, Words
from vcvae.features.mel import MelConfig
from vcvae.metrics.bootstrap import Ratio

RATE = 22050


def test_a_contour_correlates_with_itself_in_any_voice_and_with_no_other():
    talks = [speak("aeioua", f0=120, seconds=2.5, seed=seed) for seed in range(8)]
    assert f0_correlation(talks[0], talks[0], sample_rate=RATE) == pytest.approx(1)
    higher = speak("aeioua", f0=190, tract=1.15, seconds=2.5, seed=0)
    assert f0_correlation(talks[0], higher, sample_rate=RATE) > 0.95
    unrelated = [f0_correlation(a, b, sample_rate=RATE) for a in talks for b in talks if a is not b]
    assert abs(np.mean(unrelated)) < 0.2


def test_without_voice_in_common_nothing_correlates():
    assert math.isnan(f0_correlation(speak("aei"), speak("sfs"), sample_rate=RATE))
    assert math.isnan(f0_correlation(speak("aei"), speak("aei", seconds=0.2), sample_rate=RATE))


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


def test_distortion_needs_a_reference_and_is_none_from_the_same(case):
    measure, (known, conversion) = Distortion(MelConfig()), case
    found = measure(known, conversion)["distortion"]
    assert found.conversion < 1 < 8 < found.source  # the level moves what lies at the floor
    assert measure(Case("1", known.source, known.targets), conversion) == {}


def test_similarity_is_the_cosine_with_the_mean_of_the_targets(case, tmp_path):
    heard = {"source": (1, 0, 0), "target": (0, 2, 0), "another": (0, 0, 5), "conversion": (3, 3, 0)}
    loudness = {sf.read(tmp_path / f"{name}.wav")[0].std().round(4): name for name in heard}

    def embed(samples):
        assert samples.shape == (16000,)
        nearest = min(loudness, key=lambda level: abs(level - samples.std()))
        return np.array(heard[loudness[nearest]], float)

    found = Similarity("fake", embed)(*case)
    assert found["fake_target"].conversion == pytest.approx(0.5)  # (1, 1, 0)/√2 · (0, 1, 1)/√2
    assert found["fake_target"].source == pytest.approx(0)
    assert found["fake_source"].conversion == pytest.approx(1 / math.sqrt(2))


def test_words_are_counted_against_the_transcript_or_the_source(case):
    said = iter(["Hello, me!", "HELLO YOU"])  # of the conversion, and of the source
    words = Words(lambda samples: next(said), lambda text: "".join(c for c in text.lower() if c not in ",!"))
    found = words(*case)
    assert found["word_errors"] == Value(Ratio(1, 2), Ratio(0, 2))
    assert found["character_errors"] == Value(Ratio(3, 9), Ratio(0, 9))
    known, conversion = case
    found = words(Case("2", known.source, known.targets), conversion)["word_errors"]  # each is heard only once
    assert found.conversion == Ratio(1, 2)
    assert math.isnan(found.source)


def test_quality_is_of_conversion_and_source(case):
    found = Quality({"level": "level"}, lambda samples: {"level": float(np.abs(samples).max()), "more": 0.0})(*case)
    assert list(found) == ["level"]
    assert found["level"].conversion < 0.8 * found["level"].source
