import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.synthetic import RATE, speak
from vcvae.convert import finetune, voice_file
from vcvae.convert.converter import Converter
from vcvae.errors import VcvaeError
from vcvae.models import load_model
from vcvae.models.conversion.vae import DisentanglingConfig, DisentanglingVAE
from vcvae.models.conversion.voice import VOICE, Voice
from vcvae.vocoder import GriffinLim

REAL = Path(__file__).parents[1] / "egs" / "encoders" / "voices" / "june-french"
SMALL = DisentanglingConfig(
    fast_channels=24, slow_channels=32, content_latent=8, speaker_latent=16, speaker_channels=24, f0_channels=16
)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    DisentanglingVAE(SMALL).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def speaker(tmp_path):
    """Eight recordings of 2 s."""
    (tmp_path / "speaker").mkdir()
    for i in range(8):
        samples = speak(("aiueo", "oeaui", "iaoeu")[i % 3], f0=170, tract=1.1, seconds=2.0, seed=i)
        sf.write(tmp_path / "speaker" / f"{i}.wav", samples, RATE)
    return tmp_path / "speaker"


def test_a_voice_is_learned_and_speaks_without_a_target(vcvae, model, speaker, tmp_path):
    new = tmp_path / "new"
    code, out, err = vcvae("adapt", model, "--speaker", speaker, "-o", new, "--steps", 40)
    assert (code, err) == (0, "")
    assert "0.3 minutes of speech in 8 pieces" in out
    assert "1 of them held out and rebuilt" in out
    assert "needs no target" in (new / "README.md").read_text()

    before, after = load_model(model).state_dict(), load_model(new).state_dict()
    for name, value in before.items():
        same = torch.equal(value.half(), after[name].half())
        assert same or name.startswith("decoder."), name
    assert not torch.equal(before["decoder.head.weight"].half(), after["decoder.head.weight"].half())

    source = tmp_path / "src.wav"
    sf.write(source, speak("aisoe", f0=110, seconds=1.0), RATE)
    speaks = ("--vocoder", "griffin-lim")
    assert vcvae("convert", source, "--model", new, *speaks)[0] == 0
    converted = sf.read(tmp_path / "src.to-new.wav", dtype="float32")[0]
    converter = Converter(load_model(new), GriffinLim())
    expected, _ = converter.convert(sf.read(source, dtype="float32")[0], Voice.load(new))
    assert np.abs(converted - expected).max() < 1e-3
    code, _, err = vcvae("convert", source, "--model", new, "--target", source, "-o", tmp_path / "other.wav", *speaks)
    assert (code, err) == (0, "")  # it converts to other voices as any model does


def test_what_is_held_out_is_rebuilt_better_than_before(tmp_path):
    found = voice_file.make(None, REAL, tmp_path / "new", steps=30, device="cpu")
    assert (found.utterances, found.held_out) == (6, 1)
    assert 15 < found.seconds < 25
    assert found.after < 0.98 * found.before


def test_the_voice_comes_back_as_it_was_saved(model, speaker, tmp_path):
    voice = Converter(load_model(model), GriffinLim()).voice(sorted(speaker.iterdir()))
    voice.save(tmp_path)
    again = Voice.load(tmp_path)
    torch.testing.assert_close(again.reference.embedding, voice.reference.embedding)
    torch.testing.assert_close(again.f0_statistics.mean, voice.f0_statistics.mean)
    torch.testing.assert_close(again.f0_statistics.std, voice.f0_statistics.std)
    torch.testing.assert_close(again.reference.values, voice.reference.values, atol=2e-3, rtol=2e-3)
    assert torch.equal(again.reference.mask, voice.reference.mask)


def test_of_much_speech_a_step_and_the_voice_look_up_some(model, speaker, tmp_path, monkeypatch):
    for module in (finetune, voice_file):
        monkeypatch.setattr(module, "MAX_EXEMPLARS", 100)
    found = voice_file.make(model, speaker, tmp_path / "new", steps=5)
    assert math.isfinite(found.after)
    assert 100 <= Voice.load(tmp_path / "new").reference.keys.shape[1] < 150  # whole recordings, of 43 each


def test_with_few_recordings_none_is_held_out(model, tmp_path):
    sf.write(tmp_path / "a.wav", speak("aiueo" * 4, seconds=12.0), RATE)
    found = voice_file.make(model, tmp_path / "a.wav", tmp_path / "new", steps=2)
    assert (found.utterances, found.held_out) == (1, 0)
    assert math.isnan(found.before)
    Voice.load(tmp_path / "new")


def test_what_cannot_be_is_one_sentence(vcvae, model, speaker, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(VcvaeError, match="no folder with audio files"):
        voice_file.make(model, tmp_path / "empty", tmp_path / "new")
    with pytest.raises(VcvaeError, match=r"s of speech; give at least 10 s"):
        voice_file.make(model, speaker / "0.wav", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(VcvaeError, match="holds a model already"):
        voice_file.make(model, speaker, model)
    code, _, err = vcvae("convert", speaker / "0.wav", "--model", model)
    assert (code, err.count("\n")) == (2, 1)
    assert f"no {VOICE} in this folder; give a model that 'vcvae adapt' made, or a target" in err
