import numpy as np
import pytest
import soundfile as sf
import torch

from tests.synthetic import RATE, speak
from vcvae.convert import chunks
from vcvae.convert.copy_synthesis import mel_file_pieces, vocode
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.vocoder import GriffinLim, HiFiGAN, HiFiGANConfig, load_vocoder


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
def test_mel_file_pieces_refuses_what_is_no_mel(tmp_path, array, message):
    if array is None:
        (tmp_path / "a.npy").write_bytes(b"nothing")
    else:
        np.save(tmp_path / "a.npy", array)
    with pytest.raises(VcvaeError, match=f"a.npy: .*{message}"):
        list(mel_file_pieces(tmp_path / "a.npy", MelConfig()))


@pytest.mark.slow
def test_vocode_of_pieces_is_that_of_the_whole(tmp_path, neural, monkeypatch):
    samples = speak("aisoeufa uio eisauo", f0=120, seconds=9.0)
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    spectrogram = MelSpectrogram()
    np.save(tmp_path / "a.npy", spectrogram(torch.from_numpy(samples[: 775 * 256])[None])[0].numpy())
    for name, size in (("a.wav", len(samples)), ("a.npy", 775 * 256)):
        monkeypatch.setattr(chunks, "PIECE_FRAMES", 2560)
        whole = vocode(tmp_path / name, neural)
        monkeypatch.setattr(chunks, "PIECE_FRAMES", 256)
        copy = vocode(tmp_path / name, neural)
        assert len(copy) == len(whole) == size
        mels = [spectrogram(torch.from_numpy(x)[None]) for x in (whole, copy)]
        loud = mels[0] > mels[0].amax() - 5
        assert (mels[0] - mels[1])[loud].abs().mean() < 0.1


@pytest.mark.parametrize("drive", [1, 4])
def test_vocode_of_loud_speech_keeps_its_level_without_clipping(tmp_path, neural, drive):
    samples = speak("aisoeufa", f0=120, seconds=3.0)
    samples = (np.tanh(drive * 2 * samples) * 0.98 / np.tanh(drive)).astype(np.float32)
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="PCM_16")
    copy = vocode(tmp_path / "a.wav", neural)
    assert np.abs(copy).max() < 1
    assert 20 * np.log10(copy.std() / samples.std()) == pytest.approx(0, abs=0.5)


def test_vocode_takes_a_vocoder_without_buffers(tmp_path):
    vocoder = HiFiGAN(HiFiGANConfig(upsample_initial_channel=16)).eval()
    assert not list(vocoder.buffers())
    samples = speak("ao", seconds=0.3)
    sf.write(tmp_path / "a.wav", samples, RATE)
    assert vocode(tmp_path / "a.wav", vocoder).shape == samples.shape
