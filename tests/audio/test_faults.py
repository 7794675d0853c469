"""Every way in which a file can be wrong: refused in one sentence, or read with a warning."""

import errno
import os

import numpy as np
import pytest

from tests.audio.files import cached_speech, cut, put, refused, sine
from tests.synthetic import RATE
from vcvae import audio
from vcvae.audio import opening
from vcvae.errors import VcvaeError


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

        monkeypatch.setattr(opening, "open", refuse, raising=False)
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
    long = cached_speech("asiu ofe", seconds=6, sample_rate=rate)
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
    path = cut(put(tmp_path / "a.flac", cached_speech("asiu ofe", seconds=6)), part)
    refused(lambda: audio.read(path, RATE), path, "damaged or cut short")


@pytest.mark.parametrize("ending", ["flac", "mp3", "ogg"])
def test_read_names_damage_in_the_middle(tmp_path, ending, caplog):
    path = put(tmp_path / f"a.{ending}", cached_speech("asiu ofe", seconds=6))
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
