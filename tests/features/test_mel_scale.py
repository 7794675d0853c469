"""The mel scale and its filters are librosa's."""

import librosa
import numpy as np
import pytest

from vcvae.features.mel_scale import mel_filters, mel_frequencies


@pytest.mark.parametrize(
    ("count", "f_min", "f_max"), [(82, 0, 8000), (50, 0, 11025), (12, 80.0, 900.0), (3, 1500, 8000)]
)
def test_mel_frequencies_equal_librosa(count, f_min, f_max):
    frequencies = mel_frequencies(count, f_min=f_min, f_max=f_max)
    assert np.array_equal(frequencies, librosa.mel_frequencies(count, fmin=f_min, fmax=f_max))


@pytest.mark.parametrize(
    ("n_mels", "sample_rate", "n_fft", "f_min", "f_max"),
    [(80, 22050, 1024, 0.0, 8000.0), (128, 22050, 2048, 0.0, 11025.0), (100, 24000, 1024, 50.0, 12000.0)],
)
def test_mel_filters_equal_librosa(n_mels, sample_rate, n_fft, f_min, f_max):
    filters = mel_filters(n_mels, sample_rate=sample_rate, n_fft=n_fft, f_min=f_min, f_max=f_max)
    expected = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max)
    assert np.array_equal(filters, expected)
