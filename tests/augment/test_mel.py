import librosa
import torch

from vcvae.augment.mel import Perturbation, PerturbationConfig, warp
from vcvae.features.mel import MelConfig

MEL = MelConfig()
CENTRES = torch.from_numpy(librosa.mel_frequencies(82, fmin=0, fmax=8000)[1:-1]).float()


def test_warp_moves_a_resonance_by_its_factor():
    factors = torch.tensor([0.8, 1.0, 1.25])
    resonance = torch.exp(-0.5 * ((CENTRES - 1500) / 150) ** 2)
    warped = warp(resonance[None, :, None].expand(3, 80, 4), factors, CENTRES)
    peaks = CENTRES[warped[:, :, 0].argmax(dim=1)]
    torch.testing.assert_close(peaks, 1500 / factors, atol=60, rtol=0)
    torch.testing.assert_close(warped[1, :, 0], resonance)


def test_perturbation_is_the_identity_by_default():
    mel = torch.randn(2, 80, 9)
    assert Perturbation(PerturbationConfig(), MEL)(mel) is mel


def test_perturbation_equalizer_is_constant_in_time_and_smooth_in_frequency():
    torch.manual_seed(0)
    mel = torch.randn(64, 80, 5)
    curve = Perturbation(PerturbationConfig(equalizer=6.0), MEL)(mel) - mel
    torch.testing.assert_close(curve[:, :, 0], curve[:, :, 4], atol=1e-5, rtol=0)
    decibels = curve[:, :, 0] * 8.686
    assert 4 < decibels.std() < 20
    assert decibels.diff(dim=1).abs().mean() < 1.5


def test_perturbation_noise_fills_gaps_and_leaves_peaks():
    torch.manual_seed(0)
    mel = torch.full((200, 80, 20), -11.5)
    mel[:, :, :10] = 0.0
    noisy = Perturbation(PerturbationConfig(noise=0.5, noise_level=(-30.0, -30.0)), MEL)(mel)
    touched = (noisy != mel).flatten(1).any(dim=1)
    assert 0.3 < touched.float().mean() < 0.7
    assert (noisy[touched][:, :, :10] - mel[touched][:, :, :10]).mean().abs() < 0.2
    assert (noisy[touched][:, :, 10:] - mel[touched][:, :, 10:]).mean() > 3
    assert (noisy >= mel - 1e-5).all()
