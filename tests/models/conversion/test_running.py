import pytest
import torch

from tests.corpus import TINY
from vcvae.models.conversion import running
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.running import RunningModel, RunningMoments, Window
from vcvae.models.conversion.vae import DisentanglingVAE


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DisentanglingVAE(DisentanglingConfig(**TINY, postfilter_blocks=1)).eval()


@pytest.fixture
def mels():
    torch.manual_seed(1)
    return [torch.randn(1, 80, 64) - 5, torch.randn(1, 80, 80) - 4]


def test_moments_are_those_of_all_frames_so_far():
    torch.manual_seed(0)
    x = torch.randn(40, 3) * 2 + 1
    moments = RunningMoments(torch.zeros(3), torch.ones(3), prior=0.0, memory=1000)
    moments.update(x[:30], torch.ones(30), count=20)
    mean, variance = moments.update(x[20:], torch.ones(20), count=5)
    torch.testing.assert_close(mean, x.mean(dim=0))
    torch.testing.assert_close(variance, x.var(dim=0, correction=0))


def test_moments_begin_at_the_prior_and_skip_frames_without_weight():
    moments = RunningMoments(torch.full((2,), 3.0), torch.full((2,), 4.0), prior=10, memory=1000)
    mean, variance = moments.update(torch.full((50, 2), 99.0), torch.zeros(50), count=50)
    torch.testing.assert_close(mean, torch.full((2,), 3.0))
    torch.testing.assert_close(variance, torch.full((2,), 4.0))


def test_moments_forget_what_is_older_than_their_memory():
    moments = RunningMoments(torch.zeros(1), torch.ones(1), prior=10, memory=20)
    for _ in range(100):
        mean, variance = moments.update(torch.full((4, 1), 5.0), torch.ones(4), count=4)
    torch.testing.assert_close(mean, torch.full((1,), 5.0), atol=1e-3, rtol=0)
    assert moments.weight + moments.prior <= 24
    assert variance < 1e-2


def test_moments_shift_with_their_values():
    torch.manual_seed(0)
    x = torch.randn(40, 3)
    moments = RunningMoments(torch.zeros(3), torch.ones(3), prior=0.0, memory=1000)
    moments.update(x[:20], torch.ones(20), count=20)
    moments.shift(0.7)
    mean, variance = moments.update(x[20:] + 0.7, torch.ones(20), count=20)
    torch.testing.assert_close(mean, x.mean(dim=0) + 0.7)
    torch.testing.assert_close(variance, x.var(dim=0, correction=0))


def test_convert_of_one_window_without_prior_is_that_of_the_model(model, mels, monkeypatch):
    monkeypatch.setattr(running, "PRIOR", 0.0)
    monkeypatch.setattr(running, "F0_STD_PRIOR", 0.0)
    with torch.inference_mode():
        voice, mel = model.voice(mels[0]), mels[1]
        runner = RunningModel(model, voice, mels)
        level = float(model.level(mel))
        runner.enter(Window(0, torch.ones(80), 0, 72, level))
        source_f0, statistics = runner.source_f0(mel)
        torch.testing.assert_close(statistics.mean, model.f0(mel).statistics().mean)
        torch.testing.assert_close(statistics.std, model.f0(mel).statistics().std)
        target_f0 = source_f0.transfer(statistics, voice.f0_statistics).within_range()
        converted = runner.convert(mel, target_f0)
        torch.testing.assert_close(converted, model.convert(mel, voice, target_f0=target_f0), atol=1e-3, rtol=0)


def test_running_statistics_of_typical_speech_suffice(model, mels):
    with torch.inference_mode():
        voice, mel = model.voice(mels[0]), mels[1]
        runner = RunningModel(model, voice, [mel])
        runner.enter(Window(0, torch.zeros(80), 0, 0, float(model.level(mel))))  # no frame counts
        target_f0 = model.target_f0(mel, voice)
        converted = runner.convert(mel, target_f0)
        torch.testing.assert_close(converted, model.convert(mel, voice, target_f0=target_f0), atol=1e-3, rtol=0)


def test_running_model_leaves_the_model_unchanged(model, mels):
    with torch.inference_mode():
        voice, mel = model.voice(mels[0]), mels[1]
        before = model.convert(mel, voice)
        runner = RunningModel(model, voice, mels)
        runner.enter(Window(0, torch.ones(80), 0, 72, -3.0))
        runner.convert(mel, model.target_f0(mel, voice))
        torch.testing.assert_close(model.convert(mel, voice), before)
        assert next(runner.model.parameters()) is next(model.parameters())
