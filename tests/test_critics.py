from pathlib import Path

import pytest
import torch

from tests.corpus import EAR, RECOGNIZER
from vcvae.convert import Converter
from vcvae.critics import Critics, load_critics, with_gaps
from vcvae.errors import VcvaeError
from vcvae.mel import MelConfig
from vcvae.models.listener import Listener, ListenerConfig
from vcvae.models.reader import Reader, ReaderConfig
from vcvae.vocoder import RELEASED as VOCODER
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


def test_those_that_ship_know_a_voice_again_and_words_in_another_voice(converter, mels, monkeypatch):
    critics, model = converter.critics, converter.model
    torch.manual_seed(0)
    with torch.no_grad():
        source, target = (critics.speak(mel, model.pitch(mel)) for mel in mels)
        voices = [critics.voice([mel]) for mel in mels]
        for spoken, own, other in ((source, *voices), (target, *voices[::-1])):
            halves = spoken.tensor_split(2, dim=1)
            assert len({float(critics.unlike(halves[0], own)) for _ in range(3)}) > 1
            with monkeypatch.context() as without:
                without.setattr("vcvae.critics.with_gaps", lambda mel: mel)
                assert all(critics.unlike(half, own) < critics.unlike(half, other) - 0.2 for half in halves)
        voice = model.voice(mels[1])
        melody = model.melody(mels[0], voice)
        said = critics.misread(critics.speak(model.convert(mels[0], voice, melody=melody), melody), source)
        short = min(source.shape[1], target.shape[1])
        unsaid = critics.misread(target[:, :short], source[:, :short])
        again = critics.misread(critics.speak(mels[0], model.pitch(mels[0])), source)
    assert again < said < 0.5 * unsaid


def test_both_say_how_to_do_better(converter, mels):
    critics, model = converter.critics, converter.model
    torch.manual_seed(0)
    source = mels[0][:, :, :128].clone().requires_grad_()
    spoken = critics.speak(source, model.pitch(source.detach()))
    other = critics.speak(mels[0][:, :, 128:256], model.pitch(mels[0][:, :, 128:256]))
    for judged in (critics.unlike(spoken, critics.voice([mels[1]])), critics.misread(spoken, other)):
        (gradient,) = torch.autograd.grad(judged, source, retain_graph=True)
        assert gradient.abs().sum() > 0
    assert not any(p.requires_grad for p in critics.parameters())


def test_what_is_judged_is_what_a_conversion_sounds_like(converter, mels):
    """As the converter's vocoder speaks it, but for noise and the first phase, which are drawn."""
    critics, pitch = converter.critics, converter.model.pitch(mels[0])
    torch.manual_seed(0)
    with torch.no_grad():
        judged, heard = (
            critics.analysis(x) for x in (critics.speak(mels[0], pitch), converter.vocoder.speak(mels[0], pitch))
        )
        natural = critics.analysis(NeuralVocoder.from_pretrained(VOCODER).speak(mels[0], pitch))
    assert (judged - heard).abs().mean() < 0.6 * (judged - natural).abs().mean()


def test_the_listener_hears_through_gaps_that_are_drawn():
    """In some bands, and for some time in all, nothing is heard but the mean."""
    torch.manual_seed(0)
    mel = torch.randn(1, 80, 100).sign()  # nowhere near its mean
    often = torch.zeros(80, 100)
    for _ in range(1000):
        heard = with_gaps(mel)
        missing = (heard - mel).abs()[0] > 0.1
        torch.testing.assert_close(heard[0][missing], mel.mean(dim=2).expand(100, 80).T[missing])
        bands, frames = missing.all(dim=1), missing.all(dim=0)
        assert torch.equal(missing, bands[:, None] | frames)
        for gap, most in ((bands, 20), (frames, 25)):
            places = gap.nonzero()[:, 0].tolist()
            assert len(places) <= most
            assert places == list(range(places[0], places[-1] + 1) if places else ())
        often += missing
    assert 0 < often.min() < often.max() < 500


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_however_little_there_is_to_hear(frames):
    assert with_gaps(torch.randn(1, 80, frames)).isfinite().all()


def test_they_come_with_models_of_the_mel_that_they_hear(converter):
    assert load_critics(MelConfig(f_max=7600)) is None
    parts = Listener(ListenerConfig(**EAR)), Reader(ReaderConfig(**RECOGNIZER))
    with pytest.raises(VcvaeError, match="the mel of the listener and of its vocoder differ in 'f_max'"):
        Critics(*parts, NeuralVocoder(NeuralVocoderConfig(mel=MelConfig(f_max=7600))))
