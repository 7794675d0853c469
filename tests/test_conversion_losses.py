import pytest
import torch

from tests.corpus import TINY_ECAPA, TINY_RECOGNIZER
from vcvae.conversion_losses import ConversionLosses, load_losses, spec_augment
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.models.frozen.content import ContentNet, ContentNetConfig
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet, SpeakerSimilarityNetConfig
from vcvae.pretrained import VOCODER
from vcvae.vocoder import SourceFilterVocoder, SourceFilterVocoderConfig


@pytest.fixture(scope="module")
def mels(released, clips):
    """Of a source and a target, three seconds each, (1, 80, frames)."""
    return [torch.from_numpy(released.mel(clips / f"{name}.wav"))[None].clone() for name in ("source", "target")]


def test_speaker_loss_tells_real_speakers_apart(released, mels, monkeypatch):
    losses, model = released.losses, released.model
    torch.manual_seed(0)
    with torch.no_grad():
        samples = [losses.synthesize(mel, model.f0(mel)) for mel in mels]
        embeddings = [losses.speaker_embedding([mel]) for mel in mels]
        for i in (0, 1):
            own, other = embeddings[i], embeddings[1 - i]
            halves = samples[i].tensor_split(2, dim=1)
            assert len({float(losses.speaker_loss(halves[0], own)) for _ in range(3)}) > 1  # random masks
            with monkeypatch.context() as unmasked:
                unmasked.setattr("vcvae.conversion_losses.spec_augment", lambda mel: mel)
                for half in halves:
                    assert losses.speaker_loss(half, own) < losses.speaker_loss(half, other) - 0.15


def test_content_loss_is_low_for_the_same_content_in_another_voice(released, mels):
    losses, model = released.losses, released.model
    torch.manual_seed(0)
    with torch.no_grad():
        source = losses.synthesize(mels[0], model.f0(mels[0]))
        target = losses.synthesize(mels[1], model.f0(mels[1]))
        repeated = losses.synthesize(mels[0], model.f0(mels[0]))
        voice = model.voice(mels[1])
        target_f0 = model.target_f0(mels[0], voice)
        converted = losses.synthesize(model.convert(mels[0], voice, target_f0=target_f0), target_f0)
        features = losses.asr_features(source)
        same_content = losses.content_loss(converted, features)
        samples = min(source.shape[1], target.shape[1])
        other_content = losses.content_loss(target[:, :samples], losses.asr_features(source[:, :samples]))
        assert losses.content_loss(repeated, features) < same_content < 0.5 * other_content


def test_losses_have_the_gradient_of_their_finite_differences(released, mels):
    """Along the gradient of a mel, both losses fall as fast as the gradient says."""
    losses, model = released.losses, released.model
    mel = mels[0][:, :, :128].clone()
    f0 = model.f0(mel)
    target_embedding = losses.speaker_embedding([mels[1]])
    other = losses.asr_features(losses.synthesize(mels[0][:, :, 128:256], model.f0(mels[0][:, :, 128:256])))

    def both(mel):
        torch.manual_seed(0)  # of the vocoder's sources and of the masks
        samples = losses.synthesize(mel, f0)
        return losses.speaker_loss(samples, target_embedding), losses.content_loss(samples, other)

    for i in (0, 1):
        variable = mel.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(both(variable)[i], variable)
        step = 0.01 * gradient / gradient.abs().max()
        with torch.no_grad():
            difference = both(mel + step)[i] - both(mel - step)[i]
        assert float(difference) == pytest.approx(float(2 * (gradient * step).sum()), rel=0.1)
    assert not any(p.requires_grad for p in losses.parameters())


def test_synthesize_is_as_the_converter_synthesizes(released, mels):
    """But for noise and the initial phase, which are random."""
    losses, f0 = released.losses, released.model.f0(mels[0])
    torch.manual_seed(0)
    with torch.no_grad():
        scored = losses.analysis(losses.synthesize(mels[0], f0))
        converted = losses.analysis(released.vocoder.synthesize(mels[0], f0))
        for_recordings = losses.analysis(SourceFilterVocoder.from_pretrained(VOCODER).synthesize(mels[0], f0))
    assert (scored - converted).abs().mean() < 0.6 * (scored - for_recordings).abs().mean()


def test_spec_augment_masks_random_bands_and_frames_by_the_mean():
    torch.manual_seed(0)
    mel = torch.randn(1, 80, 100).sign()  # nowhere near its mean
    count = torch.zeros(80, 100)
    for _ in range(1000):
        augmented = spec_augment(mel)
        masked = (augmented - mel).abs()[0] > 0.1
        torch.testing.assert_close(augmented[0][masked], mel.mean(dim=2).expand(100, 80).T[masked])
        bands, frames = masked.all(dim=1), masked.all(dim=0)
        assert torch.equal(masked, bands[:, None] | frames)
        for mask, most in ((bands, 20), (frames, 25)):
            places = mask.nonzero()[:, 0].tolist()
            assert len(places) <= most
            assert places == list(range(places[0], places[-1] + 1) if places else ())
        count += masked
    assert 0 < count.min() < count.max() < 500


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_spec_augment_takes_few_frames(frames):
    masked = spec_augment(torch.randn(1, 80, frames))
    assert masked.shape == (1, 80, frames)
    assert masked.isfinite().all()


def test_load_losses_gives_none_for_another_mel():
    assert load_losses(MelConfig(f_max=7600)) is None


def test_losses_refuse_a_vocoder_of_another_mel():
    speaker_net = SpeakerSimilarityNet(SpeakerSimilarityNetConfig(**TINY_ECAPA))
    content_net = ContentNet(ContentNetConfig(**TINY_RECOGNIZER))
    vocoder = SourceFilterVocoder(SourceFilterVocoderConfig(mel=MelConfig(f_max=7600)))
    with pytest.raises(VcvaeError, match="the mel of the speaker network and of the vocoder differ in 'f_max'"):
        ConversionLosses(speaker_net, content_net, vocoder)
