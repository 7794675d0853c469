import math

import pytest
import torch

from tests.synthetic import speak
from vcvae.features.mel import MelSpectrogram
from vcvae.metrics.distortion import mel_cepstral_distortion


def mel(words, **voice):
    return MelSpectrogram()(torch.from_numpy(speak(words, **voice))[None])[0]


def test_mcd_of_one_cosine_is_its_rms_in_decibels():
    """With cepstra in the synthesis filter's scale, MCD is the distance of the log spectra."""
    band = (torch.arange(80) + 0.5) * math.pi / 80
    ripple = 0.3 * torch.cos(5 * band)[:, None].expand(80, 40)
    expected = 20 / math.log(10) * ripple.square().mean().sqrt().item()
    assert mel_cepstral_distortion(ripple, torch.zeros(80, 40)) == pytest.approx(expected, rel=1e-4)


def test_mcd_measures_the_vocal_tract_but_not_speed_or_level():
    voice = mel("aiueo", seconds=1.0)
    assert mel_cepstral_distortion(voice, voice + 1.0) < 0.01
    slower, other = mel("aiueo", seconds=1.3), mel("aiueo", seconds=1.0, tract=1.2)
    assert mel_cepstral_distortion(slower, voice) < 0.5 * mel_cepstral_distortion(other, voice)
