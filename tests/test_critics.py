from pathlib import Path

import pytest
import torch

from tests.corpus import EAR, RECOGNIZER
from vcvae.convert import Converter
from vcvae.critics import Critics, load_critics
from vcvae.errors import VcvaeError
from vcvae.mel import MelConfig
from vcvae.models.listener import Listener, ListenerConfig
from vcvae.models.reader import Reader, ReaderConfig
from vcvae.vocoder import NeuralVocoder, NeuralVocoderConfig

RECORDINGS = Path(__file__).parents[1] / "egs" / "convert"


@pytest.fixture(scope="module")
def converter():
    return Converter.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def mels(converter):
    """Four seconds each, (1, 80, 344)."""
    return [
        torch.from_numpy(converter.mel(RECORDINGS / f"{x}.flac"))[None, :, :344].clone() for x in ("source", "target")
    ]


def test_those_that_ship_know_a_voice_again_and_words_in_another_voice(converter, mels):
    critics, model = converter.critics, converter.model
    source, target = mels
    with torch.no_grad():
        voices = [critics.voice([mel]) for mel in mels]
        for mel, own, other in ((source, *voices), (target, *voices[::-1])):
            halves = mel.tensor_split(2, dim=2)
            assert all(critics.unlike(half, own) < critics.unlike(half, other) - 0.2 for half in halves)
        voice = model.voice(target)
        melody = model.melody(source, voice)
        converted = model.convert(source, voice, melody=melody)
        pitch, short = model.pitch(source), min(mel.shape[2] for mel in mels) // 2 * 2
        said = critics.misread(converted, melody, source, pitch)
        cut = slice(short // 2)
        unsaid = critics.misread(target[:, :, :short], model.pitch(target)[:, cut], source[:, :, :short], pitch[:, cut])
        again = critics.misread(source, pitch, source, pitch)
    assert again < said < 0.5 * unsaid


def test_both_say_how_to_do_better(converter, mels):
    critics, model = converter.critics, converter.model
    source = mels[0][:, :, :128].clone().requires_grad_()
    pitch = model.pitch(source.detach())
    for judged in (
        critics.unlike(source, critics.voice([mels[1]])),
        critics.misread(source, pitch, mels[0][:, :, 128:256], pitch),
    ):
        (gradient,) = torch.autograd.grad(judged, source)
        assert gradient.abs().sum() > 0
    assert not any(p.requires_grad for p in critics.parameters())


def test_they_come_with_models_of_the_mel_that_they_hear(converter):
    assert load_critics(MelConfig(f_max=7600)) is None
    parts = Listener(ListenerConfig(**EAR)), Reader(ReaderConfig(**RECOGNIZER))
    with pytest.raises(VcvaeError, match="the mel of the listener and of its vocoder differ in 'f_max'"):
        Critics(*parts, NeuralVocoder(NeuralVocoderConfig(mel=MelConfig(f_max=7600))))
