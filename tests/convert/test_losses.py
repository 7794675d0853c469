from pathlib import Path

import pytest
import torch

from tests.corpus import EAR, RECOGNIZER
from vcvae.convert.converter import Converter
from vcvae.convert.losses import ConversionLosses, load_losses, spec_augment
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.models.frozen.content import ContentNet, ContentNetConfig
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet, SpeakerSimilarityNetConfig
from vcvae.pretrained import VOCODER
from vcvae.vocoder import SourceFilterVocoder, SourceFilterVocoderConfig

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
    losses, model = converter.losses, converter.model
    torch.manual_seed(0)
    with torch.no_grad():
        source, target = (losses.synthesize(mel, model.f0(mel)) for mel in mels)
        voices = [losses.voice([mel]) for mel in mels]
        for spoken, own, other in ((source, *voices), (target, *voices[::-1])):
            halves = spoken.tensor_split(2, dim=1)
            assert len({float(losses.speaker_loss(halves[0], own)) for _ in range(3)}) > 1
            with monkeypatch.context() as without:
                without.setattr("vcvae.convert.losses.spec_augment", lambda mel: mel)
                assert all(losses.speaker_loss(half, own) < losses.speaker_loss(half, other) - 0.2 for half in halves)
        voice = model.voice(mels[1])
        target_f0 = model.target_f0(mels[0], voice)
        said = losses.content_loss(
            losses.synthesize(model.convert(mels[0], voice, target_f0=target_f0), target_f0), source
        )
        short = min(source.shape[1], target.shape[1])
        unsaid = losses.content_loss(target[:, :short], source[:, :short])
        again = losses.content_loss(losses.synthesize(mels[0], model.f0(mels[0])), source)
    assert again < said < 0.5 * unsaid


def test_both_say_how_to_do_better(converter, mels):
    losses, model = converter.losses, converter.model
    torch.manual_seed(0)
    source = mels[0][:, :, :128].clone().requires_grad_()
    spoken = losses.synthesize(source, model.f0(source.detach()))
    other = losses.synthesize(mels[0][:, :, 128:256], model.f0(mels[0][:, :, 128:256]))
    for judged in (losses.speaker_loss(spoken, losses.voice([mels[1]])), losses.content_loss(spoken, other)):
        (gradient,) = torch.autograd.grad(judged, source, retain_graph=True)
        assert gradient.abs().sum() > 0
    assert not any(p.requires_grad for p in losses.parameters())


def test_what_is_judged_is_what_a_conversion_sounds_like(converter, mels):
    """As the converter's vocoder speaks it, but for noise and the first phase, which are drawn."""
    losses, f0 = converter.losses, converter.model.f0(mels[0])
    torch.manual_seed(0)
    with torch.no_grad():
        judged, references = (
            losses.analysis(x) for x in (losses.synthesize(mels[0], f0), converter.vocoder.synthesize(mels[0], f0))
        )
        natural = losses.analysis(SourceFilterVocoder.from_pretrained(VOCODER).synthesize(mels[0], f0))
    assert (judged - references).abs().mean() < 0.6 * (judged - natural).abs().mean()


def test_the_listener_hears_through_gaps_that_are_drawn():
    """In some bands, and for some time in all, nothing is references but the mean."""
    torch.manual_seed(0)
    mel = torch.randn(1, 80, 100).sign()  # nowhere near its mean
    often = torch.zeros(80, 100)
    for _ in range(1000):
        references = spec_augment(mel)
        missing = (references - mel).abs()[0] > 0.1
        torch.testing.assert_close(references[0][missing], mel.mean(dim=2).expand(100, 80).T[missing])
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
    assert spec_augment(torch.randn(1, 80, frames)).isfinite().all()


def test_they_come_with_models_of_the_mel_that_they_hear(converter):
    assert load_losses(MelConfig(f_max=7600)) is None
    parts = SpeakerSimilarityNet(SpeakerSimilarityNetConfig(**EAR)), ContentNet(ContentNetConfig(**RECOGNIZER))
    with pytest.raises(VcvaeError, match="the mel of the listener and of its vocoder differ in 'f_max'"):
        ConversionLosses(*parts, SourceFilterVocoder(SourceFilterVocoderConfig(mel=MelConfig(f_max=7600))))
