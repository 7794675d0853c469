import math

import pytest
import soundfile as sf
import torch

from tests.convert.conftest import EGS
from tests.synthetic import RATE, speak
from vcvae.convert.adapt import adapt
from vcvae.convert.converter import Converter
from vcvae.errors import VcvaeError
from vcvae.models import load_model
from vcvae.models.conversion.voice import VOICE, Voice
from vcvae.vocoder import GriffinLim

REAL = EGS / "encoders" / "voices" / "june-french"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Eight recordings of 2 s."""
    folder = tmp_path_factory.mktemp("recordings")
    for i in range(8):
        samples = speak(("aiueo", "oeaui", "iaoeu")[i % 3], f0=170, tract=1.1, seconds=2.0, seed=i)
        sf.write(folder / f"{i}.wav", samples, RATE)
    return folder


@pytest.fixture
def without_losses(monkeypatch):
    """Where only files matter, the released networks would take time."""
    monkeypatch.setattr("vcvae.convert.adapt.load_losses", lambda mel: None)


def test_adapt_saves_a_model_that_needs_no_target(vcvae, tiny_model, recordings, tmp_path, without_losses):
    new = tmp_path / "new"
    reports = []
    report = adapt(tiny_model, recordings, new, steps=4, progress=lambda *args: reports.append(args[:2]))
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (report.utterances, report.held_out) == (8, 1)
    assert "needs no target" in (new / "README.md").read_text()

    before, after = load_model(tiny_model).state_dict(), load_model(new).state_dict()
    for name, value in before.items():
        assert torch.equal(value.half(), after[name].half()) or name.startswith("decoder."), name
    assert not torch.equal(before["decoder.head.weight"].half(), after["decoder.head.weight"].half())

    source = tmp_path / "src.wav"
    sf.write(source, speak("aisoe", f0=110, seconds=1.0), RATE)
    vocoder = ("--vocoder", "griffin-lim")
    assert vcvae("convert", source, "--model", new, *vocoder)[0] == 0
    converted = sf.read(tmp_path / "src.to-new.wav", dtype="float32")[0]
    converter = Converter(load_model(new), GriffinLim())
    expected, _ = converter.convert(sf.read(source, dtype="float32")[0], Voice.load(new))
    assert abs(converted - expected).max() < 1e-3
    # It converts to other voices as any model does.
    code, _, _ = vcvae("convert", source, "--model", new, "--target", source, "-o", tmp_path / "other.wav", *vocoder)
    assert code == 0


@pytest.mark.slow
def test_adapt_reconstructs_held_out_utterances_better(tmp_path, monkeypatch):
    """With the losses and the sentences of the package, as by default."""
    report = adapt(None, REAL, tmp_path / "new", steps=12, device="cpu")
    assert (report.utterances, report.held_out) == (6, 1)
    assert 15 < report.seconds < 25
    assert report.after < report.before


def test_adapt_uses_the_losses_and_the_sentences_of_the_package(tiny_model, recordings, tmp_path, monkeypatch):
    used = {}

    def finetune(model, references, **options):
        used.update(options)
        return model

    losses = torch.nn.Identity()
    monkeypatch.setattr("vcvae.convert.adapt.finetune", finetune)
    monkeypatch.setattr("vcvae.convert.adapt.load_losses", lambda mel: losses)
    adapt(tiny_model, recordings, tmp_path / "new", steps=4, seed=3)
    assert used["losses"] is losses
    assert len(used["sources"]) == 2
    assert (used["steps"], used["seed"]) == (4, 3)


def test_adapt_saves_the_voice_of_the_recordings(tiny_model, recordings, tmp_path):
    voice = Converter(load_model(tiny_model), GriffinLim()).voice(sorted(recordings.iterdir()))
    voice.save(tmp_path)
    again = Voice.load(tmp_path)
    torch.testing.assert_close(again.reference.embedding, voice.reference.embedding)
    torch.testing.assert_close(again.f0_statistics.mean, voice.f0_statistics.mean)
    torch.testing.assert_close(again.f0_statistics.std, voice.f0_statistics.std)
    torch.testing.assert_close(again.reference.values, voice.reference.values, atol=2e-3, rtol=2e-3)
    assert torch.equal(again.reference.mask, voice.reference.mask)


def test_adapt_limits_the_reference_of_much_speech(tiny_model, recordings, tmp_path, monkeypatch, without_losses):
    monkeypatch.setattr("vcvae.convert.finetune.MAX_EXEMPLARS", 100)
    report = adapt(tiny_model, recordings, tmp_path / "new", steps=3)
    assert math.isfinite(report.after)
    assert 100 <= Voice.load(tmp_path / "new").reference.keys.shape[1] < 150  # whole recordings, of 43 each


def test_adapt_holds_out_none_of_few_recordings(tiny_model, tmp_path, without_losses):
    sf.write(tmp_path / "a.wav", speak("aiueo" * 4, seconds=12.0), RATE)
    report = adapt(tiny_model, tmp_path / "a.wav", tmp_path / "new", steps=2)
    assert (report.utterances, report.held_out) == (1, 0)
    assert math.isnan(report.before)
    assert Voice.load(tmp_path / "new").reference.embedding.shape == (1, 8)


def test_adapt_refuses_what_cannot_be_used(vcvae, tiny_model, recordings, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(VcvaeError, match="no folder with audio files"):
        adapt(tiny_model, tmp_path / "empty", tmp_path / "new")
    with pytest.raises(VcvaeError, match=r"s of speech; give at least 10 s"):
        adapt(tiny_model, recordings / "0.wav", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(VcvaeError, match="holds a model already"):
        adapt(tiny_model, recordings, tiny_model)
    code, _, err = vcvae("convert", recordings / "0.wav", "--model", tiny_model)
    assert (code, err.count("\n")) == (2, 1)
    assert f"no {VOICE} in this folder; give a model that 'vcvae adapt' made, or a target" in err
