import pytest
import torch

from tests.corpus import TINY, TINY_RECOGNIZER
from tests.synthetic import RATE, speak
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.models.conversion.asr_features import MOMENTS, asr_features, at_content_frames, check_recognizer
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.encoders import ContentEncoder
from vcvae.models.frozen.content import ContentNet, ContentNetConfig
from vcvae.models.frozen.moonshine import MIN_SAMPLES, MOONSHINE_HOP, MOONSHINE_SAMPLE_RATE

MEL = MelConfig()
CONFIG = DisentanglingConfig(**TINY, asr_channels=TINY_RECOGNIZER["channels"])


@pytest.fixture
def net():
    torch.manual_seed(0)
    return ContentNet(ContentNetConfig(**TINY_RECOGNIZER)).eval().requires_grad_(False)


@pytest.fixture
def trained():
    """A content encoder that has learned to use ASR features."""
    torch.manual_seed(1)
    encoder = ContentEncoder(CONFIG).eval().requires_grad_(False)
    for layer in (encoder.asr.to_blocks, encoder.asr.to_mean):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return encoder


@pytest.mark.parametrize("frames", [1, 4, 5, 101])
def test_features_are_those_of_the_same_moment(frames):
    # A feature that is the time of its frame's centre gives the times of the content frames.
    count = 2 + frames * MEL.hop * MOONSHINE_SAMPLE_RATE // (MEL.sample_rate * MOONSHINE_HOP)
    centres = (torch.arange(count) * MOONSHINE_HOP + (MIN_SAMPLES - 1) / 2) / MOONSHINE_SAMPLE_RATE
    taken = at_content_frames(centres[None, None], frames, MEL)
    times = torch.tensor([[[frame + moment for moment in MOMENTS] for frame in range(0, frames, 4)]])
    expected = (times / MEL.frame_rate).clamp(centres[0], centres[-1])
    torch.testing.assert_close(taken, expected)


@pytest.mark.parametrize("samples", [1, 255, 256, 257, 1025, 22050])
def test_there_are_features_for_each_content_frame(net, samples):
    mel_frames = -(-samples // MEL.hop)
    taken = asr_features(net, torch.randn(2, samples), MEL)
    assert taken.shape == (2, -(-mel_frames // 4), 2 * CONFIG.asr_channels)
    assert taken.isfinite().all()


def test_features_do_not_depend_on_the_gain_and_silence_has_some(net):
    samples = torch.from_numpy(speak("aiu", seconds=1.0))[None]
    torch.testing.assert_close(
        asr_features(net, 7 * samples, MEL), asr_features(net, samples, MEL), atol=1e-4, rtol=1e-4
    )
    assert asr_features(net, torch.zeros(1, RATE), MEL).isfinite().all()


def test_features_change_nothing_until_the_model_has_learned_to_use_them(trained):
    torch.manual_seed(2)
    encoder = ContentEncoder(CONFIG).eval()
    mel, features = torch.randn(1, 80, 41), torch.randn(1, 11, 2 * CONFIG.asr_channels)
    assert torch.equal(encoder(mel, asr_features=features).mean, encoder(mel).mean)
    assert not torch.allclose(trained(mel, asr_features=features).mean, trained(mel).mean, atol=0.1)


def test_encoder_removes_what_is_constant_in_the_features_and_ignores_padding(trained):
    mel, features = torch.randn(2, 80, 41), torch.randn(2, 11, 2 * CONFIG.asr_channels)
    scaled = 3 * features + torch.randn(2, 1, 2 * CONFIG.asr_channels)
    expected = trained(mel, asr_features=features)
    torch.testing.assert_close(trained(mel, asr_features=scaled).mean, expected.mean, atol=1e-4, rtol=1e-4)
    padded_mel = torch.cat([mel, torch.randn(2, 80, 12)], dim=2)
    padded = torch.cat([features, torch.randn(2, 3, 2 * CONFIG.asr_channels)], dim=1)
    together = trained(padded_mel, torch.tensor([41, 41]), asr_features=padded)
    torch.testing.assert_close(together.mean[..., :11], expected.mean, atol=1e-4, rtol=1e-4)
    assert not together.mean[..., 11:].any()


@pytest.mark.parametrize("other", [{"channels": 32}, {"sample_rate": 16000}])
def test_another_recognizer_is_refused_in_one_sentence(other):
    net = ContentNet(ContentNetConfig(**TINY_RECOGNIZER | other))
    with pytest.raises(VcvaeError, match=r"takes 16 ASR features of speech of 22050 Hz; the recognizer gives"):
        check_recognizer(net, CONFIG)
