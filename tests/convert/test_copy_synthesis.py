import numpy as np
import pytest
import soundfile as sf
import torch

from tests.synthetic import speak
from vcvae.convert.copy_synthesis import read_mel, vocode
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.vocoder import GriffinLim, load_vocoder

RATE = 22050


@pytest.fixture(scope="module")
def neural():
    return load_vocoder("source-filter")


def test_vocode_keeps_length_loudness_and_mel(tmp_path, neural):
    samples = speak("aisoe", f0=120, seconds=1.003)
    sf.write(tmp_path / "a.wav", samples, RATE)
    copy = vocode(tmp_path / "a.wav", neural)
    assert copy.shape == samples.shape
    assert copy.dtype == np.float32
    assert copy.std() == pytest.approx(samples.std(), rel=0.15)
    mel = MelSpectrogram()(torch.from_numpy(samples)[None])
    copied_mel = MelSpectrogram()(torch.from_numpy(copy)[None])
    loud = mel > mel.amax() - 5
    assert (mel - copied_mel)[loud].abs().mean() < 0.25


def test_vocode_of_a_mel_file_is_that_of_its_recording(tmp_path, neural):
    samples = speak("uao", seconds=0.5)[: 40 * 256]
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    mel = MelSpectrogram()(torch.from_numpy(samples)[None])[0]
    np.save(tmp_path / "a.npy", mel.numpy())
    np.testing.assert_allclose(vocode(tmp_path / "a.npy", neural), vocode(tmp_path / "a.wav", neural), atol=1e-3)


def test_vocode_resamples_to_the_vocoders_rate(tmp_path):
    sf.write(tmp_path / "a.wav", speak("uao", seconds=0.5, sample_rate=16000), 16000)
    assert vocode(tmp_path / "a.wav", GriffinLim(iterations=2)).shape == (RATE // 2,)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((79, 5)), r"float64 \(79, 5\); a mel is numbers, \(80, frames\)"),
        (np.zeros((1, 80, 5)), r"\(1, 80, 5\)"),
        (np.zeros((80, 0)), r"\(80, 0\)"),
        (np.full((80, 3), "a"), r"<U1 \(80, 3\)"),
        (np.full((80, 3), np.nan), "NaN or infinite"),
        (None, "cannot be read as .npy"),
    ],
)
def test_read_mel_refuses_what_is_no_mel(tmp_path, array, message):
    if array is None:
        (tmp_path / "a.npy").write_bytes(b"nothing")
    else:
        np.save(tmp_path / "a.npy", array)
    with pytest.raises(VcvaeError, match=f"a.npy: .*{message}"):
        read_mel(tmp_path / "a.npy", MelConfig())
