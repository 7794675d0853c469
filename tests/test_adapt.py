from pathlib import Path

import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae.adapt import LIKENESS, RATE, WARP, WORDS, _Conversions, _in_another_voice, _Speaker, adapt
from vcvae.convert import Converter
from vcvae.models.disentangling import DisentanglingConfig, DisentanglingVAE
from vcvae.training.perturbation import Perturbation, PerturbationConfig
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
    learned = adapt(model, [(mel, EVERY_BAND)], steps=25)
    assert rebuilt(learned, mel).mean() < 0.95 * rebuilt(model, mel).mean()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        moved = not torch.equal(value, learned.state_dict()[name])
        assert not moved or name.startswith("decoder.")
    assert not any(p.requires_grad for p in learned.parameters())


def test_it_depends_on_the_seed_alone(model, mel):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = adapt(model, [(mel, EVERY_BAND)], steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = (adapt(model, [(mel, EVERY_BAND)], steps=3, seed=seed) for seed in (0, 5))
    head = "decoder.head.weight"
    assert torch.equal(first.state_dict()[head], again.state_dict()[head])
    assert not torch.equal(first.state_dict()[head], other.state_dict()[head])


def test_no_steps_change_nothing(model, mel):
    learned = adapt(model, [(mel, EVERY_BAND)], steps=0)
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
        head[name] = adapt(model, [(x, known)], steps=3).state_dict()["decoder.head.bias"].reshape(2, 80)
    assert (head["empty"] - before)[:, :bands].abs().mean() > RATE
    torch.testing.assert_close(head["empty"], head["anything"], atol=1e-6, rtol=0)
    torch.testing.assert_close(head["empty"][:, bands:], before[:, bands:])


def test_a_recording_that_fills_no_band_teaches_nothing(model, mel):
    learned = adapt(model, [(mel, torch.zeros(1, 80))], steps=2)
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


def test_what_is_left_is_the_mean_of_the_weights_on_their_way(model, mel, monkeypatch):
    heard, head = [(mel, EVERY_BAND)], "decoder.head.weight"
    first = adapt(model, heard, steps=1).state_dict()[head]
    both = adapt(model, heard, steps=2).state_dict()[head]
    monkeypatch.setattr("vcvae.adapt.APPROACH", 2)
    second = adapt(model, heard, steps=2).state_dict()[head]
    torch.testing.assert_close(both, (first + second) / 2)
    assert not torch.equal(first, second)


def test_what_is_rehearsed_is_kept_better():
    converter = Converter.from_pretrained(device="cpu")
    heard, words = (converter.listen([RECORDING.with_name(f"{name}.flac")]) for name in ("target", "source"))
    mel = words[0][0]
    forgetful = adapt(converter.model, heard, steps=20)
    mindful = adapt(converter.model, heard, rehearsed=words, steps=20)
    assert rebuilt(mindful, mel).mean() < rebuilt(forgetful, mel).mean()
    assert rebuilt(mindful, heard[0][0]).mean() < rebuilt(converter.model, heard[0][0]).mean()


def test_the_targets_words_are_heard_from_the_voices_that_are_rehearsed(model, mel):
    words = Converter(model, GriffinLim())._mel(speak("oeaoea", pitch=220, tract=1.2, seconds=1.0)).clone()
    voice = model.voice(words)
    own, disguised = (_Speaker(model, [(mel, EVERY_BAND)], disguises=voices) for voices in ([], [voice]))
    assert torch.equal(own.said[0], own.mels[0])
    torch.testing.assert_close(disguised.mels[0], own.mels[0])
    with torch.no_grad():
        torch.testing.assert_close(disguised.said[0], model.convert(own.mels[0], voice))
    said = []
    model.content.register_forward_pre_hook(lambda _module, inputs: said.append(inputs[0]))
    disguised.error(model.decoder, lambda x: x)
    torch.testing.assert_close(said[0], disguised.said[0])


@pytest.mark.parametrize("seed", range(8))
def test_another_voice_is_known_only_where_it_was_recorded(seed):
    torch.manual_seed(seed)
    centres = Perturbation(PerturbationConfig(), SMALL.mel).centres
    place = centres[None, :, None].expand(1, 80, 4)  # each band says where it lies
    known = (centres < 5500).float()[None]
    moved, filled = _in_another_voice(place, known, centres)
    here = filled[0] == 1
    factor = moved[0, 20, 0] / centres[20]
    assert abs(factor.log()) <= np.log(1 + WARP) + 1e-6
    torch.testing.assert_close(moved[0, here, 0][1:], (centres * factor)[here][1:])  # the lowest has no neighbour below
    assert moved[0, here].max() < 5500
    assert here.sum() >= (centres * max(1, factor) < 5000).sum()


def test_a_conversion_rehearses_its_source(model):
    converter = Converter(model, GriffinLim())
    source, target = speak("oea", seconds=1.0), speak("aiu", seconds=1.0, seed=1)
    learned, voice = converter.adapted(
        [target], rehearsed=[source, Path("absent.wav"), np.zeros(9000, np.float32)], steps=2
    )
    other, _ = converter.adapted([target], rehearsed=[source], steps=2)
    samples, _ = converter.convert(source, target, steps=2)
    np.testing.assert_array_equal(samples, other.convert(source, voice)[0])
    np.testing.assert_array_equal(samples, learned.convert(source, voice)[0])
    forgetful, _ = converter.adapted([target], steps=2)
    assert not np.array_equal(samples, forgetful.convert(source, voice)[0])


class Ear(torch.nn.Module):
    """A critic that hears how much of a mel lies in high bands, and reads it as it is; it is spoken by itself."""

    def speak(self, mel, pitch):
        assert pitch.log_f0.shape == (1, -(-mel.shape[2] // 2))
        return mel

    def voice(self, mels):
        return torch.stack([mel[:, 40:].mean() - mel[:, :40].mean() for mel in mels]).mean()

    def unlike(self, mel, voice):
        return (self.voice([mel]) - voice).square()

    def misread(self, mel, meant):
        return (mel - meant).abs().mean()


def test_critics_bring_conversions_nearer_to_the_target_and_keep_the_words():
    """By what those that ship say; without a source there is nothing to judge."""
    converter = Converter.from_pretrained(device="cpu")
    critics, model = converter.critics, converter.model
    mels = [
        torch.from_numpy(converter.mel(RECORDING.with_name(f"{x}.flac")))[None, :, :256].clone()
        for x in ("source", "target")
    ]
    source, target = ([(mel, EVERY_BAND)] for mel in mels)

    @torch.no_grad()
    def judged(learned):
        voice = learned.voice(mels[1])
        melody = learned.melody(mels[0], voice)
        converted = learned.convert(mels[0], voice, melody=melody)
        torch.manual_seed(0)
        spoken, meant = critics.speak(converted, melody), critics.speak(mels[0], model.pitch(mels[0]))
        return critics.unlike(spoken, critics.voice(mels[1:])), critics.misread(spoken, meant)

    with_them, without = (
        judged(adapt(model, target, rehearsed=source, critics=some, steps=8)) for some in (critics, None)
    )
    assert with_them[0] < without[0] - 0.02
    assert with_them[1] < without[1]
    head = "decoder.head.weight"
    alone, both = (adapt(model, target, critics=some, steps=1).state_dict()[head] for some in (critics, None))
    assert torch.equal(alone, both)


def test_words_are_asked_for_beside_likeness(model, mel):
    """Where they are what they were, nothing is asked, at whatever level they are said; others cost."""
    source = mel[:, :, :160]
    conversions = _Conversions(model, Ear(), [(mel, EVERY_BAND)], [(source, EVERY_BAND)])
    with torch.no_grad():
        right = conversions.error(lambda *_, **__: source + 3)
        said = conversions.error(lambda *_, **__: source.flip(2))
    unlike = LIKENESS * Ear().unlike(source, Ear().voice([mel]))
    misread = WORDS * (source.flip(2) - source).abs().mean()
    assert float(right) == pytest.approx(float(unlike), abs=1e-5)
    assert float(said) == pytest.approx(float(unlike + misread), rel=1e-4)
    assert float(misread) > 0.01
