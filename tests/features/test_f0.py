import librosa
import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae.errors import VcvaeError
from vcvae.features.f0 import (
    MAX_F0,
    MAX_STD_RATIO,
    MIN_F0,
    F0Contour,
    F0Statistics,
    from_bins,
    shift_pitch,
    to_bins,
    yin,
)

RATE, HOP = 22050, 256


def measure(samples):
    return yin(torch.from_numpy(np.asarray(samples, np.float32))[None], sample_rate=RATE, hop=HOP)


@pytest.mark.parametrize("hertz", [70.0, 110.0, 220.0, 440.0])
def test_yin_measures_the_f0_of_a_harmonic_tone(hertz):
    t = np.arange(RATE) / RATE
    contour = measure(sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 6)) / 3)
    assert contour.log_f0.shape == (1, -(-(RATE // HOP) // 2))
    inner = slice(3, -3)
    assert (contour.voicing[:, inner] == 1).all()
    semitones = 12 * (contour.log_f0[:, inner] - np.log2(hertz))
    assert semitones.abs().max() < 0.1


def test_yin_agrees_with_librosa_on_speech():
    samples = speak("aiueo", f0=140, seconds=2.0, seed=1)
    ours = measure(samples)
    # The frame of value i is centred on sample 512 i + 128.
    padded = np.pad(samples, (1024 - 128, 2048))
    reference = librosa.yin(padded, fmin=MIN_F0, fmax=MAX_F0, sr=RATE, frame_length=2048, hop_length=512, center=False)[
        : ours.log_f0.shape[1]
    ]
    voiced = ours.voicing[0].numpy() > 0.5
    assert voiced.mean() > 0.8
    difference = 12 * np.abs(ours.log_f0[0].numpy() - np.log2(reference))[voiced]
    assert np.median(difference) < 0.1
    assert np.mean(difference < 0.5) > 0.95


def test_yin_finds_no_voicing_in_noise_and_silence():
    noise = np.random.default_rng(0).standard_normal(RATE)
    assert measure(noise).voicing.mean() < 0.05
    assert measure(np.zeros(RATE)).voicing.sum() == 0
    assert measure(np.zeros(RATE)).log_f0.isfinite().all()


def test_yin_is_invariant_to_gain():
    samples = speak("aiu", f0=180)
    a, b = measure(samples), measure(0.01 * samples)
    torch.testing.assert_close(a.voicing, b.voicing)
    torch.testing.assert_close(a.log_f0, b.log_f0, atol=1e-3, rtol=0)


def test_to_bins_and_from_bins_are_inverse():
    log_f0 = torch.linspace(np.log2(MIN_F0), np.log2(MAX_F0), 50)
    torch.testing.assert_close(from_bins(to_bins(log_f0)), log_f0)
    assert to_bins(torch.tensor([0.0, 20.0])).tolist() == [0.0, 63.0]


def test_statistics_are_of_voiced_frames_and_follow_a_shift():
    f0 = F0Contour(torch.tensor([[7.0, 8.0, 3.0]]), torch.tensor([[1.0, 0.9, 0.1]]))
    assert f0.statistics().mean.item() == pytest.approx(7.5)
    assert f0.statistics().std.item() == pytest.approx(0.5)
    assert f0.shift(torch.tensor([0.5])).statistics().mean.item() == pytest.approx(8.0)
    never = F0Contour(torch.ones(1, 3), torch.zeros(1, 3)).statistics()
    assert never.mean.isnan().all()
    assert never.std.isnan().all()


def test_transfer_gives_the_mean_and_std_of_the_target():
    f0 = F0Contour(7 + torch.randn(3, 200, generator=torch.Generator().manual_seed(0)) / 5, torch.ones(3, 200))
    target = F0Statistics(torch.tensor([6.5, 7.5, torch.nan]), torch.tensor([0.15, 0.25, torch.nan]))
    transferred = f0.transfer(f0.statistics(), target)
    torch.testing.assert_close(transferred.statistics().mean[:2], target.mean[:2])
    torch.testing.assert_close(transferred.statistics().std[:2], target.std[:2])
    torch.testing.assert_close(transferred.log_f0[2], f0.log_f0[2])
    torch.testing.assert_close(transferred.transfer(transferred.statistics(), f0.statistics()).log_f0, f0.log_f0)


def test_transfer_scales_by_a_bounded_factor_and_keeps_a_flat_contour_flat():
    contour = torch.tensor([[7.0, 7.1, 7.2, 7.3], [7.0, 7.0, 7.0, 7.0]])
    f0 = F0Contour(contour, torch.ones(2, 4))
    wild = F0Statistics(torch.full((2,), 6.0), torch.full((2,), 9.0))
    transferred = f0.transfer(f0.statistics(), wild).log_f0
    torch.testing.assert_close(transferred[0] - 6.0, MAX_STD_RATIO * (contour[0] - 7.15))
    torch.testing.assert_close(transferred[1], torch.full((4,), 6.0))


def test_concatenate_joins_in_time():
    first = F0Contour(torch.full((1, 3), 7.0), torch.ones(1, 3))
    second = F0Contour(torch.full((1, 5), 8.0), torch.ones(1, 5))
    assert F0Contour.concatenate([first, second]).statistics().mean.item() == pytest.approx((3 * 7 + 5 * 8) / 8)


def test_salience_peaks_at_the_f0_with_the_height_of_the_voicing():
    f0 = F0Contour(from_bins(torch.tensor([[10.0, 20.0]])), torch.tensor([[1.0, 0.25]]))
    peak = f0.salience().max(dim=-1)
    assert peak.indices.tolist() == [[10, 20]]
    torch.testing.assert_close(peak.values, f0.voicing, atol=1e-4, rtol=1e-4)


def test_within_range_clamps_and_per_frame_interpolates():
    contour = F0Contour(torch.tensor([[5.0, 7.0, 9.5]]), torch.tensor([[0.0, 1.0, 1.0]]))
    low, high = np.log2(MIN_F0), np.log2(MAX_F0)
    torch.testing.assert_close(contour.within_range().log_f0, torch.tensor([[low, 7.0, high]], dtype=torch.float))
    torch.testing.assert_close(contour.per_frame(5).log_f0, torch.tensor([[5.0, 6.0, 7.0, 8.25, 9.5]]))


@pytest.mark.parametrize("octaves", [1e30, -1e30, np.nan])
def test_pitch_shift_beyond_any_voice_is_refused(octaves):
    with pytest.raises(VcvaeError, match="fit the model again"):
        shift_pitch(np.zeros(22050, np.float32), octaves, 22050)
