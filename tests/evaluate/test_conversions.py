import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from tests.synthetic import RATE, speak
from vcvae import audio
from vcvae.errors import VcvaeError
from vcvae.evaluate import Case
from vcvae.evaluate.conversions import Conversions


@pytest.fixture
def case(tmp_path):
    """A source of one second, and a target of another voice."""
    sf.write(tmp_path / "source.wav", speak("aisoe", f0=110, seconds=1.0), RATE, subtype="FLOAT")
    sf.write(tmp_path / "target.wav", speak("oeauioeaui", f0=210, tract=1.15, seconds=2.2), RATE)
    return Case("1", tmp_path / "source.wav", (tmp_path / "target.wav",))


def test_conversions_by_stream_are_what_a_stream_gives_and_never_mixed_with_others(released, case, tmp_path):
    streamed = Conversions(released, [case], tmp_path / "stream", steps=0, stream=True)
    converted = audio.read(streamed.make(case), RATE)
    stream = released.stream(released.voice(case.targets))
    expected = np.concatenate([stream.push(audio.read(case.source, RATE)), stream.finish()])
    assert len(converted) == len(expected) == len(audio.read(case.source, RATE))
    np.testing.assert_allclose(converted, expected, atol=2**-15)  # 16 bits
    assert json.loads((tmp_path / "stream" / "settings.json").read_text())["mode"] == "stream"
    with pytest.raises(VcvaeError, match="holds conversions with another mode; give another -o"):
        Conversions(released, [case], tmp_path / "stream", steps=0)
    whole = Conversions(released, [case], tmp_path / "whole", steps=0)
    assert np.abs(audio.read(whole.make(case), RATE) - expected).max() > 0.01
    with pytest.raises(VcvaeError, match="holds conversions with another mode; give another -o"):
        Conversions(released, [case], tmp_path / "whole", steps=0, stream=True)
    assert Conversions(released, [case], tmp_path / "stream", steps=0, stream=True).make(case).exists()


def test_refined_conversions_learn_each_target_once_for_any_source(released, case, tmp_path, monkeypatch):
    calls = []

    def learn(targets, *, steps, **options):
        calls.append(("learn", "sources" in options, steps))
        return voice

    def refine(given, source, *, steps, progress):
        calls.append(("refine", source, steps))
        return given

    voice = released.voice(case.targets)
    monkeypatch.setattr(released, "learn", learn)
    monkeypatch.setattr(released, "refine", refine)
    second = replace(case, id="2")
    conversions = Conversions(released, [case, second], tmp_path / "out", steps=5, refine=3)
    assert all(conversions.make(each).exists() for each in (case, second))
    assert calls == [("learn", False, 5), ("refine", case.source, 3), ("refine", case.source, 3)]
    with pytest.raises(VcvaeError, match="holds conversions with another refine; give another -o"):
        Conversions(released, [case], tmp_path / "out", steps=5)
