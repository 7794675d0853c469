import librosa
import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae.pitch import HIGHEST, LOWEST, Pitch, bins, from_bins, yin

RATE, HOP = 22050, 256


def measure(samples):
    return yin(torch.from_numpy(np.asarray(samples, np.float32))[None], sample_rate=RATE, hop=HOP)


@pytest.mark.parametrize("f0", [70, 110.0, 220.0, 440.0])
def test_yin_finds_the_pitch_of_a_harmonic_tone(f0):
    t = np.arange(RATE) / RATE
    pitch = measure(sum(np.sin(2 * np.pi * f0 * k * t) / k for k in range(1, 6)) / 3)
    assert pitch.log_f0.shape == (1, -(-(RATE // HOP) // 2))
    inner = slice(3, -3)
    assert (pitch.voicing[:, inner] == 1).all()
    semitones = 12 * (pitch.log_f0[:, inner] - np.log2(f0))
    assert semitones.abs().max() < 0.1


def test_yin_agrees_with_librosa_on_speech():
    samples = speak("aiueo", pitch=140, seconds=2.0, seed=1)
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
    samples = speak("aiu", pitch=180)
    a, b = measure(samples), measure(0.01 * samples)
    torch.testing.assert_close(a.voicing, b.voicing)
    torch.testing.assert_close(a.log_f0, b.log_f0, atol=1e-3, rtol=0)


def test_bins_and_back():
    log_f0 = torch.linspace(np.log2(LOWEST), np.log2(HIGHEST), 50)
    torch.testing.assert_close(from_bins(bins(log_f0)), log_f0)
    assert bins(torch.tensor([0.0, 20.0])).tolist() == [0.0, 63.0]


def test_register_counts_voiced_frames_only_and_shift_moves_it():
    pitch = Pitch(torch.tensor([[7.0, 8.0, 3.0]]), torch.tensor([[1.0, 0.9, 0.1]]))
    assert pitch.register().item() == pytest.approx(7.5)
    assert pitch.shift(torch.tensor([0.5])).register().item() == pytest.approx(8.0)
    assert Pitch(torch.ones(1, 3), torch.zeros(1, 3)).register().isnan().all()


def test_salience_peaks_at_the_pitch_as_high_as_the_voicing():
    pitch = Pitch(from_bins(torch.tensor([[10.0, 20.0]])), torch.tensor([[1.0, 0.25]]))
    peak = pitch.salience().max(dim=-1)
    assert peak.indices.tolist() == [[10, 20]]
    torch.testing.assert_close(peak.values, pitch.voicing, atol=1e-4, rtol=1e-4)
