from pathlib import Path

import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae.adapt import RATE, adapt
from vcvae.convert import Converter
from vcvae.models.disentangling import DisentanglingConfig, DisentanglingVAE
from vcvae.vocoder import GriffinLim

SMALL = DisentanglingConfig(
    fast_channels=24, slow_channels=32, content_latent=8, speaker_latent=16, speaker_channels=24, pitch_channels=16
)
RECORDING = Path(__file__).parents[1] / "egs" / "convert" / "target.flac"
EVERY_BAND = torch.ones(1, 80)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DisentanglingVAE(SMALL).eval()


@pytest.fixture
def mel(model):
    samples = speak("aiueoaiueo", seconds=2.0)
    return Converter(model, GriffinLim())._mel(samples).clone()


def rebuilt(model, mel):
    """How far a model's copy of an utterance in its own voice is from it, band by band."""
    with torch.no_grad():
        return (model.convert(mel, model.voice(mel)) - mel).abs().mean(dim=(0, 2))


def test_a_voice_is_learned_and_the_model_stays_as_it_was():
    converter = Converter.from_pretrained(device="cpu")
    model, mel = converter.model, torch.from_numpy(converter.mel(RECORDING))[None].clone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learned = adapt(model, [mel], [EVERY_BAND], steps=25)
    assert rebuilt(learned, mel).mean() < 0.95 * rebuilt(model, mel).mean()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        moved = not torch.equal(value, learned.state_dict()[name])
        assert not moved or name.startswith("decoder.")
    assert not any(p.requires_grad for p in learned.parameters())


def test_it_depends_on_the_seed_alone(model, mel):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = adapt(model, [mel], [EVERY_BAND], steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = (adapt(model, [mel], [EVERY_BAND], steps=3, seed=seed) for seed in (0, 5))
    head = "decoder.head.weight"
    assert torch.equal(first.state_dict()[head], again.state_dict()[head])
    assert not torch.equal(first.state_dict()[head], other.state_dict()[head])


def test_no_steps_change_nothing(model, mel):
    learned = adapt(model, [mel], [EVERY_BAND], steps=0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, learned.state_dict()[name])


def test_bands_that_a_recording_does_not_fill_are_not_learned(model, mel):
    bands = model.config.encoder_bands  # above these nothing is heard, so that what is there can only be learned
    known = EVERY_BAND.clone()
    known[:, bands:] = 0
    empty = mel.clone()
    empty[:, bands:] = -11.5
    before, head = model.state_dict()["decoder.head.bias"].reshape(2, 80), {}
    for name, x in (("empty", empty), ("anything", empty + torch.where(known > 0, 0.0, 3.0)[..., None])):
        head[name] = adapt(model, [x], [known], steps=3).state_dict()["decoder.head.bias"].reshape(2, 80)
    assert (head["empty"] - before)[:, :bands].abs().mean() > RATE
    torch.testing.assert_close(head["empty"], head["anything"], atol=1e-6, rtol=0)
    torch.testing.assert_close(head["empty"][:, bands:], before[:, bands:])


def test_a_recording_that_fills_no_band_teaches_nothing(model, mel):
    learned = adapt(model, [mel], [torch.zeros(1, 80)], steps=2)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(learned.state_dict()[name], value)


@pytest.mark.parametrize("seconds", [0.1, 0.5, 4.0])
def test_any_length_and_number_of_utterances(model, seconds):
    converter = Converter(model, GriffinLim())
    targets = [speak("aiu", seconds=seconds, seed=i) for i in range(2)]
    learned, voice = converter.adapted(targets, steps=2)
    samples, _ = learned.convert(speak("oea", seconds=0.5), voice)
    assert np.isfinite(samples).all()
    assert voice.timbre.said.shape[1] == voice.timbre.exists.sum()
