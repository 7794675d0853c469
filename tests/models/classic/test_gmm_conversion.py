import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelSpectrogram
from vcvae.metrics.distortion import mel_cepstral_distortion
from vcvae.models.classic.gmm_conversion import GMMConversion, GMMConversionConfig, _most_probable_trajectory, slopes

CONFIG = GMMConversionConfig(components=8)


def mel(words, seed, **voice):
    return MelSpectrogram()(torch.from_numpy(speak(words, seconds=1.5, seed=seed, f0=120, **voice))[None])[0]


def sentences(*seeds):
    for seed in seeds:
        words = "".join(np.random.default_rng(seed).permutation(list("aeiousf")))
        yield mel(words, seed), mel(words, seed + 100, tract=1.2)


@pytest.fixture(scope="module")
def model():
    return GMMConversion.fit(list(sentences(*range(8))), CONFIG)


def test_gmm_conversion_is_nearer_to_the_target_by_more_than_a_decibel(model):
    gains = [
        mel_cepstral_distortion(source, target) - mel_cepstral_distortion(model.convert(source), target)
        for source, target in sentences(50, 51, 52)
    ]
    assert min(gains) > 1.0


def test_gmm_conversion_keeps_level_and_length(model):
    source, _ = next(sentences(50))
    converted = model.convert(source)
    assert converted.shape == source.shape
    torch.testing.assert_close(converted.mean(0), source.mean(0), atol=1e-3, rtol=0)
    torch.testing.assert_close(model.convert(source + 0.7), converted + 0.7, atol=1e-3, rtol=0)


def test_trajectory_solves_the_normal_equations():
    torch.manual_seed(0)
    frames = 12
    value, slope = torch.randn(2, frames).double()
    value_variance, slope_variance = (0.1 + torch.rand(2, frames)).double()
    difference = slopes(torch.eye(frames).double()).T  # the matrix that takes y to its slopes
    w = torch.cat([torch.eye(frames).double(), difference])
    precision = torch.diag(1 / torch.cat([value_variance, slope_variance]))
    expected = torch.linalg.solve(w.T @ precision @ w, w.T @ precision @ torch.cat([value, slope]))
    torch.testing.assert_close(_most_probable_trajectory(value, slope, value_variance, slope_variance), expected)


def test_gmm_conversion_is_the_same_after_saving_and_loading(model, tmp_path):
    source, _ = next(sentences(50))
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(GMMConversion.from_pretrained(tmp_path).convert(source), model.convert(source))


@pytest.mark.parametrize("value", [0.0, 1e-40, 1e30])
def test_gmm_conversion_with_a_singular_covariance_is_one_sentence(value):
    model = GMMConversion(GMMConversionConfig(components=2))
    model.joint.factors.fill_(value)
    with pytest.raises(VcvaeError, match="singular; fit it again"):
        model.convert(torch.randn(80, 20))


def test_gmm_conversion_without_pairs_is_one_sentence():
    with pytest.raises(VcvaeError, match="files of the same names"):
        GMMConversion.fit([])


def test_gmm_conversion_config_bounds_the_covariances_together():
    with pytest.raises(VcvaeError, match="lower components"):
        GMMConversionConfig.parse({"components": 4096, "cepstra": 32}, context="config.json")
