from pathlib import Path

import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae.augment.mel import Perturbation, PerturbationConfig
from vcvae.convert.converter import Converter
from vcvae.convert.finetune import (
    CONTENT_WEIGHT,
    LEARNING_RATE,
    SPEAKER_WEIGHT,
    WARP,
    _Conversions,
    _Speaker,
    _vtlp,
    finetune,
)
from vcvae.models.conversion.vae import DisentanglingConfig, DisentanglingVAE
from vcvae.vocoder import GriffinLim

SMALL = DisentanglingConfig(
    fast_channels=24, slow_channels=32, content_latent=8, speaker_latent=16, speaker_channels=24, f0_channels=16
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
    learned = finetune(model, [(mel, EVERY_BAND)], steps=25)
    assert rebuilt(learned, mel).mean() < 0.95 * rebuilt(model, mel).mean()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        moved = not torch.equal(value, learned.state_dict()[name])
        assert not moved or name.startswith("decoder.")
    assert not any(p.requires_grad for p in learned.parameters())


def test_it_depends_on_the_seed_alone(model, mel):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = finetune(model, [(mel, EVERY_BAND)], steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = (finetune(model, [(mel, EVERY_BAND)], steps=3, seed=seed) for seed in (0, 5))
    head = "decoder.head.weight"
    assert torch.equal(first.state_dict()[head], again.state_dict()[head])
    assert not torch.equal(first.state_dict()[head], other.state_dict()[head])


def test_no_steps_change_nothing(model, mel):
    learned = finetune(model, [(mel, EVERY_BAND)], steps=0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, learned.state_dict()[name])


def test_bands_that_a_recording_does_not_fill_are_not_learned(model, mel):
    bands = model.config.encoder_bands  # above these nothing is references, so that what is there can only be learned
    valid_bands = EVERY_BAND.clone()
    valid_bands[:, bands:] = 0
    empty = mel.clone()
    empty[:, bands:] = -11.5
    before, head = model.state_dict()["decoder.head.bias"].reshape(2, 80), {}
    for name, x in (("empty", empty), ("anything", empty + torch.where(valid_bands > 0, 0.0, 3.0)[..., None])):
        head[name] = finetune(model, [(x, valid_bands)], steps=3).state_dict()["decoder.head.bias"].reshape(2, 80)
    assert (head["empty"] - before)[:, :bands].abs().mean() > LEARNING_RATE
    torch.testing.assert_close(head["empty"], head["anything"], atol=1e-6, rtol=0)
    torch.testing.assert_close(head["empty"][:, bands:], before[:, bands:])


def test_a_recording_that_fills_no_band_teaches_nothing(model, mel):
    learned = finetune(model, [(mel, torch.zeros(1, 80))], steps=2)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(learned.state_dict()[name], value)


@pytest.mark.parametrize("seconds", [0.1, 0.5, 4.0])
def test_any_length_and_number_of_utterances(model, seconds):
    converter = Converter(model, GriffinLim())
    targets = [speak("aiu", seconds=seconds, seed=i) for i in range(2)]
    learned, voice = converter.finetuned(targets, steps=2)
    samples, _ = learned.convert(speak("oea", seconds=0.5), voice)
    assert np.isfinite(samples).all()
    assert voice.reference.keys.shape[1] == voice.reference.mask.sum()


def test_what_is_left_is_the_mean_of_the_weights_on_their_way(model, mel, monkeypatch):
    references, head = [(mel, EVERY_BAND)], "decoder.head.weight"
    first = finetune(model, references, steps=1).state_dict()[head]
    both = finetune(model, references, steps=2).state_dict()[head]
    monkeypatch.setattr("vcvae.convert.finetune.AVERAGE_AFTER", 2)
    second = finetune(model, references, steps=2).state_dict()[head]
    torch.testing.assert_close(both, (first + second) / 2)
    assert not torch.equal(first, second)


def test_what_is_rehearsed_is_kept_better():
    converter = Converter.from_pretrained(device="cpu")
    references, words = (
        converter.load_references([RECORDING.with_name(f"{name}.flac")]) for name in ("target", "source")
    )
    mel = words[0][0]
    forgetful = finetune(converter.model, references, steps=20)
    mindful = finetune(converter.model, references, sources=words, steps=20)
    assert rebuilt(mindful, mel).mean() < rebuilt(forgetful, mel).mean()
    assert rebuilt(mindful, references[0][0]).mean() < rebuilt(converter.model, references[0][0]).mean()


def test_the_targets_words_are_heard_from_the_voices_that_are_rehearsed(model, mel):
    words = Converter(model, GriffinLim())._mel(speak("oeaoea", f0=220, tract=1.2, seconds=1.0)).clone()
    voice = model.voice(words)
    own, back_translated = (_Speaker(model, [(mel, EVERY_BAND)], bt_voices=voices) for voices in ([], [voice]))
    assert torch.equal(own.keys[0], own.mels[0])
    torch.testing.assert_close(back_translated.mels[0], own.mels[0])
    with torch.no_grad():
        torch.testing.assert_close(back_translated.keys[0], model.convert(own.mels[0], voice))
    said = []
    model.content.register_forward_pre_hook(lambda _module, inputs: said.append(inputs[0]))
    back_translated.error(model.decoder, lambda x: x)
    torch.testing.assert_close(said[0], back_translated.keys[0])


@pytest.mark.parametrize("seed", range(8))
def test_another_voice_is_known_only_where_it_was_recorded(seed):
    torch.manual_seed(seed)
    centres = Perturbation(PerturbationConfig(), SMALL.mel).centres
    place = centres[None, :, None].expand(1, 80, 4)  # each band says where it lies
    valid_bands = (centres < 5500).float()[None]
    moved, filled = _vtlp(place, valid_bands, centres)
    here = filled[0] == 1
    factor = moved[0, 20, 0] / centres[20]
    assert abs(factor.log()) <= np.log(1 + WARP) + 1e-6
    torch.testing.assert_close(moved[0, here, 0][1:], (centres * factor)[here][1:])  # the lowest has no neighbour below
    assert moved[0, here].max() < 5500
    assert here.sum() >= (centres * max(1, factor) < 5000).sum()


def test_a_conversion_rehearses_its_source(model):
    converter = Converter(model, GriffinLim())
    source, target = speak("oea", seconds=1.0), speak("aiu", seconds=1.0, seed=1)
    learned, voice = converter.finetuned(
        [target], sources=[source, Path("absent.wav"), np.zeros(9000, np.float32)], steps=2
    )
    other, _ = converter.finetuned([target], sources=[source], steps=2)
    samples, _ = converter.convert(source, target, steps=2)
    np.testing.assert_array_equal(samples, other.convert(source, voice)[0])
    np.testing.assert_array_equal(samples, learned.convert(source, voice)[0])
    forgetful, _ = converter.finetuned([target], steps=2)
    assert not np.array_equal(samples, forgetful.convert(source, voice)[0])


class EcapaTrunk(torch.nn.Module):
    """A losses that hears how much of a mel lies in high bands, and reads it as it is; it is spoken by itself."""

    def speak(self, mel, f0):
        assert f0.log_f0.shape == (1, -(-mel.shape[2] // 2))
        return mel

    def voice(self, mels):
        return torch.stack([mel[:, 40:].mean() - mel[:, :40].mean() for mel in mels]).mean()

    def speaker_loss(self, mel, voice):
        return (self.voice([mel]) - voice).square()

    def content_loss(self, mel, meant):
        return (mel - meant).abs().mean()


def test_critics_bring_conversions_nearer_to_the_target_and_keep_the_words():
    """By what those that ship say; without a source there is nothing to judge."""
    converter = Converter.from_pretrained(device="cpu")
    losses, model = converter.losses, converter.model
    mels = [
        torch.from_numpy(converter.mel(RECORDING.with_name(f"{x}.flac")))[None, :, :256].clone()
        for x in ("source", "target")
    ]
    source, target = ([(mel, EVERY_BAND)] for mel in mels)

    @torch.no_grad()
    def judged(learned):
        voice = learned.voice(mels[1])
        target_f0 = learned.target_f0(mels[0], voice)
        converted = learned.convert(mels[0], voice, target_f0=target_f0)
        torch.manual_seed(0)
        spoken, meant = losses.synthesize(converted, target_f0), losses.synthesize(mels[0], model.f0(mels[0]))
        return losses.speaker_loss(spoken, losses.voice(mels[1:])), losses.content_loss(spoken, meant)

    with_them, without = (
        judged(finetune(model, target, sources=source, losses=some, steps=8)) for some in (losses, None)
    )
    assert with_them[0] < without[0] - 0.02
    assert with_them[1] < without[1]
    head = "decoder.head.weight"
    alone, both = (finetune(model, target, losses=some, steps=1).state_dict()[head] for some in (losses, None))
    assert torch.equal(alone, both)


def test_words_are_asked_for_beside_likeness(model, mel):
    """Where they are what they were, nothing is asked, at whatever level they are said; others cost."""
    source = mel[:, :, :160]
    conversions = _Conversions(model, EcapaTrunk(), [(mel, EVERY_BAND)], [(source, EVERY_BAND)])
    with torch.no_grad():
        right = conversions.error(lambda *_, **__: source + 3)
        said = conversions.error(lambda *_, **__: source.flip(2))
    speaker_loss = SPEAKER_WEIGHT * EcapaTrunk().speaker_loss(source, EcapaTrunk().voice([mel]))
    content_loss = CONTENT_WEIGHT * (source.flip(2) - source).abs().mean()
    assert float(right) == pytest.approx(float(speaker_loss), abs=1e-5)
    assert float(said) == pytest.approx(float(speaker_loss + content_loss), rel=1e-4)
    assert float(content_loss) > 0.01
