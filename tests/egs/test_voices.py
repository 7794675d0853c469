"""The table of drawn voices, by the smallest model."""

import numpy as np
import pytest
import soundfile as sf

from egs.voices import measure
from tests.synthetic import RATE, speak


class Verifier:
    """Its embedding is the long-term spectrum in 16 bands."""

    def __init__(self, _):
        pass

    def embed(self, samples):
        return np.array([band.mean() for band in np.array_split(np.abs(np.fft.rfft(samples)), 16)])


class Predictor:
    def __init__(self, _):
        pass

    def rate(self, samples):
        assert samples.dtype == np.float32
        return {"distillmos": 3.5}


@pytest.fixture(autouse=True)
def other_networks(monkeypatch):
    """Networks to measure that need no package."""
    monkeypatch.setattr(measure, "CamPlus", Verifier)
    monkeypatch.setattr(measure, "DistillMOS", Predictor)


@pytest.fixture
def speakers(tmp_path):
    """A folder of two speakers of three recordings each."""
    for speaker, f0 in (("ann", 210), ("ben", 110)):
        (tmp_path / "speech" / speaker).mkdir(parents=True)
        for number in range(3):
            samples = speak("aisoe", f0=f0, seconds=0.6, seed=number)
            sf.write(tmp_path / "speech" / speaker / f"{number}.wav", samples, RATE)
    return tmp_path / "speech"


def test_drawn_voices_are_measured_in_a_table(model_with_prior, speakers, monkeypatch, capsys):
    monkeypatch.setattr(measure, "SOURCES", 3)
    measure.main([str(speakers), str(speakers), "--voices", "2", "--model", str(model_with_prior)])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert [len(row) for row in rows] == [3] * 7  # head, line, five rows
    assert rows[0][0].startswith("2 drawn voices (seeds 0 to ")
    table = {row[0]: row[1:] for row in rows[2:]}
    (nearest,) = (name for name in table if name.startswith("the most similar of 2 training speakers"))
    for name in (nearest, "any two, each voice with a sentence of its own: mean, largest"):
        mean, largest = map(float, table[name][0].split(", "))
        assert 0 < mean <= largest <= 1
    assert table["one voice from 3 sources, among each other: 2 voices"][1].endswith(" (one voice)")
    assert table["DistillMOS, 2 sources"] == ["3.50", "3.50"]


def test_drawn_voices_are_measured_on_two_speakers_or_more(speakers):
    with pytest.raises(SystemExit, match="two speakers or more, of 3 recordings or more"):
        measure.main([str(speakers), str(speakers / "ann")])
