"""Reading a file or an array: every width and format, resampling against known sines, channels, levels, trimming."""

import logging
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.audio.files import put, refused, sine
from tests.synthetic import RATE
from vcvae import audio
from vcvae.audio.reading import MARGIN
from vcvae.errors import VcvaeError


@pytest.mark.parametrize(
    ("ending", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 2**-7),
        ("wav", "PCM_16", 2**-15),
        ("wav", "PCM_24", 2**-23),
        ("wav", "PCM_32", 2**-23),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 0),
        ("wav", "ULAW", 0.02),
        ("wav", "ALAW", 0.02),
        ("flac", "PCM_S8", 2**-7),
        ("flac", "PCM_16", 2**-15),
        ("flac", "PCM_24", 2**-23),
        ("aiff", "PCM_16", 2**-15),
        ("caf", "PCM_16", 2**-15),
        ("w64", "PCM_16", 2**-15),
        ("au", "FLOAT", 0),
    ],
)
def test_read_every_width(tmp_path, speech, ending, subtype, tolerance, caplog):
    samples = audio.read(put(tmp_path / f"a.{ending}", speech, RATE, subtype), RATE)
    assert samples.dtype == np.float32
    assert samples.shape == speech.shape
    assert np.abs(samples - speech).max() <= tolerance
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "rate", "kwargs"),
    [
        ("a.ogg", RATE, {"format": "OGG", "subtype": "VORBIS"}),
        ("a.opus", 24000, {"format": "OGG", "subtype": "OPUS"}),
        ("a.mp3", RATE, {}),
        ("a.wav", RATE, {"subtype": "IMA_ADPCM"}),
    ],
)
def test_read_lossy_formats(tmp_path, speech, name, rate, kwargs, caplog):
    samples = audio.read(put(tmp_path / name, speech, rate, **kwargs), rate)
    assert abs(len(samples) - len(speech)) < 3000  # ADPCM is padded to whole blocks
    assert np.corrcoef(samples[: len(speech)], speech)[0, 1] > 0.7  # Opus turns phases
    assert not caplog.records


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 16000, 22050, 44100, 48000, 192000])
def test_read_resamples_with_length_frequency_level_and_phase(tmp_path, rate):
    path = put(tmp_path / "a.wav", sine(1000, rate=rate), rate, "FLOAT")
    samples = audio.read(path, RATE)
    assert abs(len(samples) - RATE) <= 1
    inner = slice(RATE // 10, -RATE // 10)
    np.testing.assert_allclose(samples[inner], sine(1000)[: len(samples)][inner], atol=1e-4)


def test_read_resamples_without_aliasing(tmp_path):
    path = put(tmp_path / "a.wav", sine(15000, rate=48000), 48000, "FLOAT")
    assert np.abs(audio.read(path, RATE)[1000:-1000]).max() < 1e-4


@pytest.mark.parametrize("frames", [2, 3, 7, 100])
def test_read_resamples_very_short_files(tmp_path, frames):
    path = put(tmp_path / "a.wav", np.linspace(-0.5, 0.5, frames), 8000)
    assert len(audio.read(path, RATE)) == pytest.approx(frames * RATE / 8000, abs=1)


@pytest.mark.parametrize("channels", [2, 12])
def test_read_averages_channels_with_one_warning(tmp_path, channels, caplog):
    many = np.random.default_rng(0).uniform(-0.5, 0.5, (5000, channels)).astype(np.float32)
    path = put(tmp_path / "a.wav", many, RATE, "FLOAT")
    for _ in range(3):
        np.testing.assert_allclose(audio.read(path, RATE), many.mean(axis=1), atol=1e-6)
    (record,) = caplog.records
    assert record.name == "vcvae"
    assert record.levelno == logging.WARNING
    assert str(path) in record.getMessage()
    assert f"{channels} channels" in record.getMessage()


@pytest.mark.parametrize("peak", [1.5, 32767.0, 1e6, 3e38])
def test_read_scales_a_float_file_down_to_full_scale(tmp_path, speech, peak, caplog):
    loud = speech / np.abs(speech).max()
    path = put(tmp_path / "a.wav", loud * np.float32(peak), RATE, "FLOAT")
    np.testing.assert_allclose(audio.read(path, RATE), loud, atol=1e-5)
    assert f"{20 * np.log10(peak):.1f} dB" in caplog.text
    stereo = put(tmp_path / "b.wav", np.stack([loud, loud], 1) * np.float32(peak), RATE, "FLOAT")
    np.testing.assert_allclose(audio.read(stereo, RATE), loud, atol=1e-5)


def test_read_keeps_a_float_file_of_full_scale(tmp_path, caplog):
    samples = sine(440, amplitude=1.0)
    np.testing.assert_array_equal(audio.read(put(tmp_path / "a.wav", samples, RATE, "FLOAT"), RATE), samples)
    assert not caplog.records


def test_read_keeps_a_dc_offset(tmp_path):
    path = put(tmp_path / "a.wav", sine(440, amplitude=0.25) + 0.5, 44100)
    assert audio.read(path, RATE)[500:-500].mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_read_trims_silence(tmp_path, offset):
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    quiet[RATE : 2 * RATE] += sine(200)
    path = put(tmp_path / "a.wav", quiet + np.float32(offset), RATE, "FLOAT")
    trimmed, whole = audio.read(path, RATE, trim=True), audio.read(path, RATE)
    assert len(whole) == 3 * RATE
    assert len(trimmed) / RATE == pytest.approx(1 + 2 * MARGIN, abs=0.021)
    starts = [start for start in range(RATE) if np.array_equal(whole[start : start + 50], trimmed[:50])]
    assert RATE - starts[0] == pytest.approx(MARGIN * RATE, abs=0.011 * RATE)


def test_read_trims_no_pauses(tmp_path, speech):
    path = put(tmp_path / "a.wav", np.concatenate([speech, np.zeros(RATE), speech]))
    assert len(audio.read(path, RATE, trim=True)) > 2 * len(speech) + 0.8 * RATE
    path = put(tmp_path / "b.wav", sine(300, 0.1234))
    np.testing.assert_array_equal(audio.read(path, RATE, trim=True), audio.read(path, RATE))


def test_read_trims_a_file_shorter_than_a_frame(tmp_path):
    path = put(tmp_path / "a.wav", np.array([0.5, -0.5]))
    assert len(audio.read(path, RATE, trim=True)) == 2


def test_read_checks_the_length_after_trimming(tmp_path):
    path = put(tmp_path / "a.wav", np.concatenate([np.zeros(RATE), sine(200, 0.02), np.zeros(RATE)]))
    assert len(audio.read(path, RATE, min_samples=RATE)) == 2 * RATE + 441
    refused(lambda: audio.read(path, RATE, trim=True, min_samples=RATE), path, "1.0000 s", "too short", "silence")


def test_read_a_flac_of_unspecified_length(tmp_path, speech):
    path = put(tmp_path / "a.flac", speech)
    expected = audio.read(path, RATE)
    header = bytearray(path.read_bytes())
    header[21] &= 0xF0
    header[22:26] = bytes(4)
    path.write_bytes(header)
    np.testing.assert_array_equal(audio.read(path, RATE), expected)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_read_a_piped_wav_of_unspecified_length(tmp_path, speech, size, caplog):
    path = put(tmp_path / "a.wav", speech)
    header = bytearray(path.read_bytes())
    header[40:44] = struct.pack("<I", size)
    path.write_bytes(header)
    assert len(audio.read(path, RATE)) == len(speech)
    assert not caplog.records


@pytest.mark.parametrize("rate", [0, -1, -22050, "22050", None, True, float("nan"), float("inf"), 3999, 10**7, 1j, [1]])
def test_from_array_refuses_a_rate_in_one_sentence(rate):
    with pytest.raises(VcvaeError, match=r"^sample_rate [^\n]*: must be a number from 4000 to 768000 Hz\.$"):
        audio.from_array(sine(300), rate, RATE)


@pytest.mark.parametrize("rate", [44100, 44100.0, np.int64(44100), np.float32(44100)])
def test_from_array_takes_a_rate_of_any_type(rate):
    np.testing.assert_array_equal(audio.from_array(sine(300), rate, RATE), audio.from_array(sine(300), 44100, RATE))


def test_audio_imports_neither_torch_nor_librosa():
    imported = set()
    for file in Path(audio.__file__).parent.glob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        imported |= {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import", "from"))}
    assert {"numpy", "soundfile", "soxr"} <= imported
    assert not imported & {"torch", "torchaudio", "librosa", "scipy"}
