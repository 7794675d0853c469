import librosa
import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae.features.f0 import HIGHEST, LOWEST, STRETCH, F0Contour, F0Statistics, bins, from_bins, yin

RATE, HOP = 22050, 256


def measure(samples):
    return yin(torch.from_numpy(np.asarray(samples, np.float32))[None], sample_rate=RATE, hop=HOP)


@pytest.mark.parametrize("f0", [70, 110.0, 220.0, 440.0])
def test_yin_finds_the_pitch_of_a_harmonic_tone(f0):
    t = np.arange(RATE) / RATE
    f0 = measure(sum(np.sin(2 * np.pi * f0 * k * t) / k for k in range(1, 6)) / 3)
    assert f0.log_f0.shape == (1, -(-(RATE // HOP) // 2))
    inner = slice(3, -3)
    assert (f0.voicing[:, inner] == 1).all()
    semitones = 12 * (f0.log_f0[:, inner] - np.log2(f0))
    assert semitones.abs().max() < 0.1


def test_yin_agrees_with_librosa_on_speech():
    samples = speak("aiueo", f0=140, seconds=2.0, seed=1)
    ours = measure(samples)
    # The frame of value i is centred on sample 512 i + 128.
    padded = np.pad(samples, (1024 - 128, 2048))
    reference = librosa.yin(
        padded, fmin=LOWEST, fmax=HIGHEST, sr=RATE, frame_length=2048, hop_length=512, center=False
    )[: ours.log_f0.shape[1]]
    voiced = ours.voicing[0].numpy() > 0.5
    assert voiced.mean() > 0.8
    difference = 12 * np.abs(ours.log_f0[0].numpy() - np.log2(reference))[voiced]
    assert np.median(difference) < 0.1
    assert np.mean(difference < 0.5) > 0.95


def test_noise_and_silence_are_unvoiced():
    noise = np.random.default_rng(0).standard_normal(RATE)
    assert measure(noise).voicing.mean() < 0.05
    assert measure(np.zeros(RATE)).voicing.sum() == 0
    assert measure(np.zeros(RATE)).log_f0.isfinite().all()


def test_gain_changes_nothing():
    samples = speak("aiu", f0=180)
    a, b = measure(samples), measure(0.01 * samples)
    torch.testing.assert_close(a.voicing, b.voicing)
    torch.testing.assert_close(a.log_f0, b.log_f0, atol=1e-3, rtol=0)


def test_bins_and_back():
    log_f0 = torch.linspace(np.log2(LOWEST), np.log2(HIGHEST), 50)
    torch.testing.assert_close(from_bins(bins(log_f0)), log_f0)
    assert bins(torch.tensor([0.0, 20.0])).tolist() == [0.0, 63.0]


def test_register_counts_voiced_frames_only_and_shift_moves_it():
    f0 = F0Contour(torch.tensor([[7.0, 8.0, 3.0]]), torch.tensor([[1.0, 0.9, 0.1]]))
    assert f0.statistics().mean.item() == pytest.approx(7.5)
    assert f0.statistics().spread.item() == pytest.approx(0.5)
    assert f0.shift(torch.tensor([0.5])).statistics().mean.item() == pytest.approx(8.0)
    never = F0Contour(torch.ones(1, 3), torch.zeros(1, 3)).statistics()
    assert never.mean.isnan().all()
    assert never.spread.isnan().all()


def test_a_contour_moves_to_another_register_as_high_and_as_lively():
    f0 = F0Contour(7 + torch.randn(3, 200, generator=torch.Generator().manual_seed(0)) / 5, torch.ones(3, 200))
    there = F0Statistics(torch.tensor([6.5, 7.5, torch.nan]), torch.tensor([0.15, 0.25, torch.nan]))
    moved = f0.move(f0.statistics(), there)
    torch.testing.assert_close(moved.statistics().mean[:2], there.mean[:2])
    torch.testing.assert_close(moved.statistics().spread[:2], there.spread[:2])
    torch.testing.assert_close(moved.log_f0[2], f0.log_f0[2])
    torch.testing.assert_close(moved.move(moved.statistics(), f0.statistics()).log_f0, f0.log_f0)


def test_a_contour_is_stretched_by_a_bounded_factor_and_a_flat_one_stays_flat():
    contour = torch.tensor([[7.0, 7.1, 7.2, 7.3], [7.0, 7.0, 7.0, 7.0]])
    f0 = F0Contour(contour, torch.ones(2, 4))
    wild = F0Statistics(torch.full((2,), 6.0), torch.full((2,), 9.0))
    moved = f0.move(f0.statistics(), wild).log_f0
    torch.testing.assert_close(moved[0] - 6.0, STRETCH * (contour[0] - 7.15))
    torch.testing.assert_close(moved[1], torch.full((4,), 6.0))


def test_contours_that_follow_each_other_are_one():
    first, second = (F0Contour(torch.full((1, n), x), torch.ones(1, n)) for n, x in ((3, 7.0), (5, 8.0)))
    assert F0Contour.concatenate([first, second]).statistics().mean.item() == pytest.approx((3 * 7 + 5 * 8) / 8)


def test_salience_peaks_at_the_pitch_as_high_as_the_voicing():
    f0 = F0Contour(from_bins(torch.tensor([[10.0, 20.0]])), torch.tensor([[1.0, 0.25]]))
    peak = f0.salience().max(dim=-1)
    assert peak.indices.tolist() == [[10, 20]]
    torch.testing.assert_close(peak.values, f0.voicing, atol=1e-4, rtol=1e-4)
