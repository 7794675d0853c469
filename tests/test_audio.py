"""Round trips, resampling against known sines, streams against whole files, and every way a file can be wrong."""

from __future__ import annotations

import doctest
import errno
import functools
import logging
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.synthetic import speak
from vcvae import audio
from vcvae.errors import VcvaeError

RATE = 22050


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """No test may leave a temporary file."""
    yield
    assert not [path.name for path in tmp_path.rglob(".*")]


spoken = functools.cache(speak)


@pytest.fixture
def speech():
    return spoken("asiu ofe", f0=140, seconds=2).copy()


def sine(frequency, seconds=1.0, rate=RATE, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def put(path, samples, rate=RATE, subtype=None, **kwargs):
    soundfile.write(str(path), samples, rate, subtype=subtype, **kwargs)
    return path


def refused(call, *words):
    """The message of the VcvaeError that `call` raises: one line, with all the `words`."""
    with pytest.raises(VcvaeError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    for word in words:
        assert str(word) in message
    return message


def cut(path, part=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    return path


def db(x):
    return 20 * np.log10(x)


# -- what is read is what was written ----------------------------------------------------------------------------


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


@pytest.mark.parametrize("ending", ["wav", "flac", "WAV"])
def test_write_and_read_16_bits_is_lossless(tmp_path, ending):
    steps = np.arange(-(2**15), 2**15, dtype=np.float32) / 2**15
    audio.write(tmp_path / f"a.{ending}", steps, 16000)
    again = audio.read(tmp_path / f"a.{ending}", 16000)
    np.testing.assert_array_equal(again, steps)
    info = soundfile.info(str(tmp_path / f"a.{ending}"))
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")


def test_write_rounds_to_the_nearest_step(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 10000).astype(np.float32)
    audio.write(tmp_path / "a.wav", samples, RATE)
    error = audio.read(tmp_path / "a.wav", RATE) - samples
    assert np.abs(error).max() <= 0.51 / 2**15 or samples.max() > 1 - 2**-15
    assert abs(error.mean()) < 0.02 / 2**15


@pytest.mark.parametrize(
    "name", ["with space.wav", "größe 声.wav", "-dash.wav", "--force.wav", "a.b.c.flac", "%s{}.wav"]
)
def test_read_and_write_unusual_names(tmp_path, monkeypatch, speech, name):
    monkeypatch.chdir(tmp_path)
    audio.write(name, speech, RATE)
    assert os.listdir(tmp_path) == [name]
    assert len(audio.read(name, RATE)) == len(speech)
    assert audio.find(".") == [Path(name)]


# -- rates, channels, levels -------------------------------------------------------------------------------------


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
    assert f"{db(peak):.1f} dB" in caplog.text
    stereo = put(tmp_path / "b.wav", np.stack([loud, loud], 1) * np.float32(peak), RATE, "FLOAT")
    np.testing.assert_allclose(audio.read(stereo, RATE), loud, atol=1e-5)


def test_read_keeps_a_float_file_of_full_scale(tmp_path, caplog):
    samples = sine(440, amplitude=1.0)
    np.testing.assert_array_equal(audio.read(put(tmp_path / "a.wav", samples, RATE, "FLOAT"), RATE), samples)
    assert not caplog.records


def test_read_keeps_a_dc_offset(tmp_path):
    path = put(tmp_path / "a.wav", sine(440, amplitude=0.25) + 0.5, 44100)
    assert audio.read(path, RATE)[500:-500].mean() == pytest.approx(0.5, abs=0.01)


# -- trimming ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_read_trims_silence(tmp_path, offset):
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    quiet[RATE : 2 * RATE] += sine(200)
    path = put(tmp_path / "a.wav", quiet + np.float32(offset), RATE, "FLOAT")
    trimmed, whole = audio.read(path, RATE, trim=True), audio.read(path, RATE)
    assert len(whole) == 3 * RATE
    assert len(trimmed) / RATE == pytest.approx(1 + 2 * audio.MARGIN, abs=0.021)
    starts = [start for start in range(RATE) if np.array_equal(whole[start : start + 50], trimmed[:50])]
    assert RATE - starts[0] == pytest.approx(audio.MARGIN * RATE, abs=0.011 * RATE)


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


# -- streams -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
@pytest.mark.parametrize("rate", [RATE, 44100])
@pytest.mark.parametrize("seconds", [0.1, 0.7])
def test_blocks_join_to_the_file(tmp_path, monkeypatch, name, rate, seconds):
    loud = np.stack([spoken("aiue", seconds=1, sample_rate=rate), spoken("uuaa", seconds=1, sample_rate=rate)], axis=1)
    path = put(tmp_path / name, loud, rate)
    whole, _ = soundfile.read(str(path), always_2d=True)  # in one piece
    monkeypatch.setattr(audio, "CHUNK", 3001)  # many joints, at odd places
    pieces = list(audio.blocks(path, RATE, seconds))
    assert {len(piece) for piece in pieces[:-1]} == {round(seconds * RATE)}
    assert 0 < len(pieces[-1]) <= round(seconds * RATE)
    streamed = np.concatenate(pieces)
    np.testing.assert_array_equal(streamed, audio.read(path, RATE))
    monkeypatch.undo()
    np.testing.assert_allclose(streamed, audio.read(path, RATE), atol=1e-6)
    if rate == RATE:
        np.testing.assert_allclose(streamed, whole.mean(axis=1), atol=1e-5)


def test_blocks_are_read_only_when_asked_for(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(audio, "CHUNK", 4410)
    chunks = audio._Stream.chunks
    monkeypatch.setattr(audio._Stream, "chunks", lambda self: (decoded.append(len(c)) or c for c in chunks(self)))
    stream = audio.blocks(put(tmp_path / "a.wav", sine(300, 4.0)), RATE, 0.5)
    assert decoded == []
    next(stream)
    assert sum(decoded) < RATE
    stream.close()


def test_blocks_of_a_whole_number_have_no_empty_last_one(tmp_path):
    assert [len(b) for b in audio.blocks(put(tmp_path / "a.wav", sine(300, 2.0)), RATE, 0.5)] == [11025] * 4


def test_blocks_check_the_whole_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "CHUNK", 4096)
    silent = audio.blocks(put(tmp_path / "a.wav", np.zeros(RATE)), RATE, 0.25)
    assert not next(silent).any()
    refused(lambda: list(silent), "a.wav", "silent")
    damaged = audio.blocks(cut(put(tmp_path / "a.flac", sine(300, 4.0))), RATE, 0.25)
    assert next(damaged).any()
    refused(lambda: list(damaged), "a.flac", "cut short")


def test_blocks_of_a_long_file_need_bounded_memory(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(str(path), "w", 16000, 1, "PCM_16") as file:
        for _ in range(120):
            file.write(sine(300, 10, 16000))
    program = (
        "import resource, sys; from vcvae import audio\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak()\n"
        "with audio.Writer(sys.argv[2], 16000) as writer:\n"
        "    for block in audio.blocks(sys.argv[1], 16000, 10): writer.append(block)\n"
        "print(peak() - before)"
    )
    args = [sys.executable, "-c", program, str(path), str(tmp_path / "out.wav")]
    grown = float(subprocess.run(args, capture_output=True, text=True, check=True).stdout)
    assert soundfile.info(tmp_path / "out.wav").duration == 1200
    assert grown < 40  # MiB; the samples alone are 73


def test_read_stops_after_the_largest_length(tmp_path, caplog):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(str(path), "w", 16000, 1, "PCM_16") as file:
        for _ in range(12):
            file.write(sine(300, 10, 16000))
    samples = audio.read(path, 16000, max_seconds=30)
    np.testing.assert_array_equal(samples, audio.read(path, 16000)[: 30 * 16000])
    assert "the first 0.5 minutes are used" in caplog.text


# -- length ------------------------------------------------------------------------------------------------------


def test_read_a_flac_of_unspecified_length(tmp_path, speech):
    path = put(tmp_path / "a.flac", speech)
    told = audio.read(path, RATE)
    header = bytearray(path.read_bytes())
    header[21] &= 0xF0
    header[22:26] = bytes(4)
    path.write_bytes(header)
    np.testing.assert_array_equal(audio.read(path, RATE), told)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_read_a_piped_wav_of_unspecified_length(tmp_path, speech, size, caplog):
    path = put(tmp_path / "a.wav", speech)
    header = bytearray(path.read_bytes())
    header[40:44] = struct.pack("<I", size)
    path.write_bytes(header)
    assert len(audio.read(path, RATE)) == len(speech)
    assert not caplog.records


# -- files that are wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [lambda p: audio.read(p, RATE), lambda p: list(audio.blocks(p, RATE, 1))])
class TestNotAudio:
    def test_missing(self, tmp_path, call):
        refused(lambda: call(tmp_path / "none.wav"), tmp_path / "none.wav", "No such file")

    def test_below_a_file(self, tmp_path, call):
        (tmp_path / "a").write_bytes(b"a")
        refused(lambda: call(tmp_path / "a/b.wav"), "a/b.wav", "cannot be read")

    def test_a_name_too_long(self, tmp_path, call):
        refused(lambda: call(tmp_path / ("a" * 300 + ".wav")), "too long")

    def test_a_folder(self, tmp_path, call):
        refused(lambda: call(tmp_path), tmp_path, "not a file")

    def test_a_pipe(self, tmp_path, call):
        os.mkfifo(tmp_path / "a.wav")
        refused(lambda: call(tmp_path / "a.wav"), "not a file")

    def test_empty(self, tmp_path, call):
        (tmp_path / "a.wav").touch()
        refused(lambda: call(tmp_path / "a.wav"), "a.wav", "0 bytes")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_forbidden(self, tmp_path, speech, call):
        put(tmp_path / "a.wav", speech).chmod(0)
        refused(lambda: call(tmp_path / "a.wav"), "a.wav", "Permission denied")

    def test_forbidden_to_anyone(self, tmp_path, speech, call, monkeypatch):
        def refuse(*args, **kwargs):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(audio, "open", refuse, raising=False)
        refused(lambda: call(put(tmp_path / "a.wav", speech)), "a.wav", "Permission denied")

    def test_a_git_lfs_pointer(self, tmp_path, call):
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
        (tmp_path / "a.flac").write_text(pointer)
        refused(lambda: call(tmp_path / "a.flac"), "a.flac", "Git LFS pointer", "git lfs pull")

    @pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg", "au", "raw", "vox", "gsm", "m4a", "txt"])
    def test_not_audio(self, tmp_path, call, ending):
        path = tmp_path / f"a.{ending}"
        for content in (b"hello, world\n" * 99, bytes(999), b"RIFF", b"OggS" * 50):
            path.write_bytes(content)
            refused(lambda: call(path), path, "not audio", "ffmpeg")

    @pytest.mark.parametrize("rate", [1, 3999, 2_000_000])
    def test_a_rate_that_is_not_one_of_speech(self, tmp_path, call, rate):
        refused(lambda: call(put(tmp_path / "a.wav", sine(1, 500, 2), rate)), "a.wav", f"{rate} Hz")


def test_read_refuses_no_samples(tmp_path):
    refused(lambda: audio.read(put(tmp_path / "a.wav", np.zeros(0)), RATE), "a.wav", "no samples")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_read_refuses_nan_and_infinity(tmp_path, speech, subtype, value):
    speech[12345] = value
    path = put(tmp_path / "a.wav", speech, RATE, subtype)
    refused(lambda: audio.read(path, RATE), path, "NaN or infinite")
    refused(lambda: next(audio.blocks(path, RATE, 0.1)), path, "NaN or infinite")  # before anything is done


def test_read_refuses_values_too_large_for_32_bits(tmp_path):
    path = put(tmp_path / "a.wav", np.array([0, 1e300, 0]), RATE, "DOUBLE")
    refused(lambda: audio.read(path, RATE), path, "infinite")


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize(("level", "silent"), [(None, True), (-90, True), (-70, False)])
def test_read_refuses_silence(tmp_path, level, silent, offset):
    samples = sine(300, amplitude=10 ** (level / 20) if level else 0) + np.float32(offset)
    path = put(tmp_path / "a.wav", samples, RATE, "PCM_24")
    if silent:
        refused(lambda: audio.read(path, RATE, trim=True), path, "silent", "-80 dB")
    else:
        assert len(audio.read(path, RATE)) == RATE


def test_read_names_channels_that_cancel(tmp_path, speech):
    path = put(tmp_path / "a.wav", np.stack([speech, -speech], axis=1))
    refused(lambda: audio.read(path, RATE), path, "silent when its 2 channels are mixed")


def test_read_refuses_too_short_files(tmp_path):
    path = put(tmp_path / "a.wav", sine(300, 0.01, 44100), 44100)
    refused(lambda: audio.read(path, RATE, min_samples=385), path, "0.0100 s", "too short", "at least 0.0175 s")
    assert len(audio.read(path, RATE, min_samples=220)) in (220, 221)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("a.wav", {}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.wav", {"format": "RF64"}),
        ("a.aiff", {}),
        ("a.au", {}),
        ("a.w64", {}),
        ("a.mp3", {}),
        ("a.ogg", {}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
    ],
)
def test_read_a_truncated_file_with_a_warning(tmp_path, name, kwargs, caplog):
    rate = 24000
    long = spoken("asiu ofe", seconds=6, sample_rate=rate)
    path = put(tmp_path / name, long, rate, **kwargs)
    whole = audio.read(path, rate)
    assert not caplog.records
    samples = audio.read(cut(path), rate)
    assert 0.15 * len(whole) < len(samples) < 0.7 * len(whole)
    np.testing.assert_allclose(samples[:-3000], whole[: len(samples) - 3000], atol=1e-4)
    assert str(path) in caplog.text
    assert f"cut short; {len(samples) / rate:.2f} s" in caplog.text


@pytest.mark.parametrize("part", [0.999, 0.5, 0.02])
def test_read_refuses_a_truncated_flac(tmp_path, part):
    path = cut(put(tmp_path / "a.flac", spoken("asiu ofe", seconds=6)), part)
    refused(lambda: audio.read(path, RATE), path, "damaged or cut short")


@pytest.mark.parametrize("ending", ["flac", "mp3", "ogg"])
def test_read_names_damage_in_the_middle(tmp_path, ending, caplog):
    path = put(tmp_path / f"a.{ending}", spoken("asiu ofe", seconds=6))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    path.write_bytes(content)
    try:
        audio.read(path, RATE)
    except VcvaeError as error:
        assert "damaged or cut short" in str(error)  # noqa: PT017 - either is right
    else:
        assert "damaged or cut short" in caplog.text


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg", "aiff", "w64", "caf", "au"])
def test_read_of_any_truncation_does_not_crash(tmp_path, ending):
    path = put(tmp_path / f"a.{ending}", sine(440, 0.5))
    content = path.read_bytes()
    for size in [*range(1, 120, 7), *np.linspace(120, len(content) - 1, 12).astype(int)]:
        path.write_bytes(content[:size])
        try:
            samples = audio.read(path, RATE)
        except VcvaeError as error:
            assert str(path) in str(error)  # noqa: PT017 - most cuts are read, some refused
        else:
            assert len(samples)


# -- writing -----------------------------------------------------------------------------------------------------


def test_write_keeps_an_existing_file_without_force(tmp_path, speech):
    path = tmp_path / "a.wav"
    path.write_bytes(b"precious")
    for call in (
        lambda: audio.check_output(path),
        lambda: audio.write(path, speech, RATE),
        lambda: audio.Writer(path, RATE).__enter__(),
    ):
        refused(call, path, "--force")
    assert path.read_bytes() == b"precious"
    audio.check_output(path, force=True)
    audio.write(path, speech, RATE, force=True)
    assert len(audio.read(path, RATE)) == len(speech)
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("name", ["a.mp3", "a", "a.wav.txt", ".wav"])
def test_write_refuses_unknown_endings(tmp_path, speech, name):
    refused(lambda: audio.check_output(tmp_path / name), name, ".wav or .flac")
    refused(lambda: audio.write(tmp_path / name, speech, RATE), name, ".wav or .flac")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("force", [False, True])
def test_write_names_paths_that_cannot_be_written(tmp_path, speech, force):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file").write_bytes(b"a")
    for name in ("none/a.wav", "file/a.wav", "folder.wav", "a" * 300 + ".wav"):
        refused(lambda: audio.check_output(tmp_path / name, force), tmp_path / name)  # noqa: B023 - called at once
        refused(lambda: audio.write(tmp_path / name, speech, RATE, force=force), tmp_path / name)  # noqa: B023
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.wav"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_write_refuses_a_read_only_folder(tmp_path, speech):
    tmp_path.chmod(0o500)
    try:
        refused(lambda: audio.check_output(tmp_path / "a.wav"), tmp_path / "a.wav", "read-only")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
@pytest.mark.parametrize("late", [False, True])
def test_write_on_a_full_disk(tmp_path, name, late):
    """A limit on the size of files stands for it: the pieces do not fit, or (late) what is made of them."""
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).uniform(-1, 1, 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if late else 300_000, hard))
        with audio.Writer(tmp_path / name, RATE) as writer:
            for piece in np.split(noise, 10):
                writer.append(piece)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))

    try:
        refused(fill, name, "cannot be written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("where", ["write", "replace"])
def test_write_failure_keeps_the_old_file(tmp_path, speech, where, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"precious")

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if where == "replace" else soundfile.SoundFile, where, fail)
    refused(lambda: audio.write(tmp_path / "a.wav", speech, RATE, force=True), "a.wav", "No space left on device")
    assert (tmp_path / "a.wav").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_write_refuses_nan_and_infinity(tmp_path, value):
    refused(lambda: audio.write(tmp_path / "a.wav", np.array([0, value]), RATE), "a.wav", "NaN")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_write_refuses_no_samples(tmp_path, name):
    refused(lambda: audio.write(tmp_path / name, np.zeros(0), RATE), name, "no samples")
    assert os.listdir(tmp_path) == []


def test_write_takes_one_channel(tmp_path):
    with pytest.raises(ValueError, match="shape"):
        audio.write(tmp_path / "a.wav", np.zeros((2, 100)), RATE)
    assert os.listdir(tmp_path) == []


def test_write_names_a_rate_that_the_format_refuses(tmp_path, speech):
    refused(lambda: audio.write(tmp_path / "a.flac", speech, 10**6), "a.flac", "cannot be written")
    assert os.listdir(tmp_path) == []


def test_write_limits_clipping_with_a_warning(tmp_path, caplog):
    audio.write(tmp_path / "a.wav", sine(300, amplitude=2.0), RATE)
    samples = audio.read(tmp_path / "a.wav", RATE)
    np.testing.assert_allclose(samples, np.clip(sine(300, amplitude=2.0), -1, 1), atol=2**-15)
    over = np.count_nonzero(np.abs(sine(300, amplitude=2.0)) > 1)
    (record,) = caplog.records
    for words in ("a.wav", "6.0 dB over full scale", f"{over} samples"):
        assert words in record.getMessage()


def test_write_full_scale_without_warning(tmp_path, caplog):
    audio.write(tmp_path / "a.wav", np.array([1.0, -1.0, 0.0]), RATE)
    assert not caplog.records


def test_write_uses_the_default_file_mode(tmp_path, speech):
    (tmp_path / "plain").touch()
    audio.write(tmp_path / "a.wav", speech, RATE)
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_writer_is_write_in_pieces(tmp_path, speech, monkeypatch):
    monkeypatch.setattr(audio, "CHUNK", 1000)
    for ending in audio.OUTPUT_FORMATS:
        audio.write(tmp_path / f"whole{ending}", speech, RATE)
        with audio.Writer(tmp_path / f"pieces{ending}", RATE) as writer:
            for piece in np.array_split(speech, 7):
                writer.append(piece)
            assert sorted(os.listdir(tmp_path)) == [f"whole{ending}"]  # nothing is seen before the end
        assert (tmp_path / f"whole{ending}").read_bytes() == (tmp_path / f"pieces{ending}").read_bytes()
        (tmp_path / f"whole{ending}").unlink()
        (tmp_path / f"pieces{ending}").unlink()


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt, OSError, VcvaeError])
@pytest.mark.parametrize("existing", [False, True])
def test_writer_leaves_nothing_after_an_exception(tmp_path, speech, exception, existing):
    path = tmp_path / "a.wav"
    if existing:
        path.write_bytes(b"precious")

    def interrupted():
        with audio.Writer(path, RATE, force=True) as writer:
            writer.append(speech)
            raise exception("mine")

    with pytest.raises(exception, match="mine"):
        interrupted()
    assert os.listdir(tmp_path) == (["a.wav"] if existing else [])
    assert not existing or path.read_bytes() == b"precious"


# -- folders -----------------------------------------------------------------------------------------------------


def test_find_is_recursive_sorted_and_knows_endings(tmp_path):
    names = ["b.wav", "a/z.FLAC", "a/b/c.mp3", "ü.ogg", "x.Opus"]
    for name in [*names, "a.txt", ".hidden.wav", "wav"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    assert audio.find(tmp_path) == sorted(tmp_path / name for name in names)
    (tmp_path / ".hidden.wav").unlink()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("A.WAV", {"format": "WAV"}),
        ("a.wave", {"format": "WAV"}),
        ("a.bwf", {"format": "WAV"}),
        ("a.oga", {"format": "OGG"}),
        ("a.aifc", {"format": "AIFF", "subtype": "ULAW"}),
        ("a.snd", {"format": "AU"}),
        ("a.sph", {"format": "NIST"}),
        ("a.voc", {"format": "VOC"}),
        ("a.rf64", {"format": "RF64"}),
    ],
)
def test_find_knows_the_endings_of_what_is_read(tmp_path, speech, name, options):
    put(tmp_path / name, speech, RATE, **options)
    assert audio.find_readable(tmp_path) == ([tmp_path / name], [])
    assert len(audio.read(tmp_path / name, RATE)) == len(speech)


def test_find_readable_gives_a_reason_for_each_other_audio_file(tmp_path, speech):
    put(tmp_path / "good.wav", speech)
    (tmp_path / "phone.M4A").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(400))
    (tmp_path / "empty.wav").touch()
    (tmp_path / "lost.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "notes.txt").write_text("no audio")
    os.mkfifo(tmp_path / "pipe.wav")
    readable, left_out = audio.find_readable(tmp_path)
    assert readable == [tmp_path / "good.wav"]
    assert {path.name: reason for path, reason in left_out}.keys() == {
        "phone.M4A",
        "empty.wav",
        "lost.wav",
        "loop.wav",
        "pipe.wav",
    }
    for (_, reason), words in zip(left_out, ("0 bytes", "links", "No such", "not audio", "a pipe"), strict=True):
        assert words in reason
    (tmp_path / "good.wav").unlink()
    refused(lambda: audio.find_readable(tmp_path), tmp_path, "none of its 5 audio files can be read")
    refused(lambda: audio.find_readable(tmp_path / "empty.wav"), "empty.wav", "0 bytes")


def test_find_refuses_what_holds_no_audio(tmp_path, speech):
    refused(lambda: audio.find(tmp_path), tmp_path, ".flac", ".wav")
    refused(lambda: audio.find(tmp_path / "none"), tmp_path / "none")
    refused(lambda: audio.find(put(tmp_path / "a.wav", speech)), "a.wav")


# -- the rest ----------------------------------------------------------------------------------------------------


def test_audio_examples_run():
    assert doctest.testmod(audio).failed == 0


def test_audio_imports_neither_torch_nor_librosa():
    source = Path(audio.__file__).read_text(encoding="utf-8")
    imported = {
        line.split()[1].partition(".")[0] for line in source.splitlines() if line.startswith(("import", "from"))
    }
    assert {"numpy", "soundfile", "soxr"} <= imported
    assert not imported & {"torch", "torchaudio", "librosa", "scipy"}


def test_synthetic_speech_is_the_same_words_in_two_voices():
    first, second = (speak("asiu o", f0=p, tract=t, seconds=2) for p, t in ((100, 1.0), (200, 1.2)))
    assert first.dtype == np.float32
    assert first.shape == second.shape == (2 * RATE,)
    np.testing.assert_array_equal(first, speak("asiu o", f0=100, seconds=2))
    assert not np.array_equal(first, speak("asiu o", f0=100, seconds=2, seed=1))
    vowel = speak("a", f0=100, seconds=1)[4000:-4000]
    correlation = np.correlate(vowel, vowel, "full")[len(vowel) - 1 :]
    assert RATE / (100 + np.argmax(correlation[100:400])) == pytest.approx(100, rel=0.11)
    for speech in (first, second):  # "s" is unvoiced and high, " " is silent, in both
        letters = dict(zip("asiu o", np.array_split(speech, 6), strict=True))
        crossings = {letter: np.mean(np.diff(np.sign(part)) != 0) for letter, part in letters.items()}
        assert crossings["s"] > 0.3 > crossings["a"]
        assert letters[" "][1000:-1000].std() < 1e-3 * letters["a"].std()
