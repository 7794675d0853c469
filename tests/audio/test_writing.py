"""Writing: what is read again is what was written, and nothing is left of what cannot be written."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.files import refused, sine
from tests.synthetic import RATE
from vcvae import audio
from vcvae.audio import writing
from vcvae.errors import VcvaeError


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


def test_write_keeps_an_existing_file_without_force(tmp_path, speech):
    path = tmp_path / "a.wav"
    path.write_bytes(b"earlier")
    for call in (
        lambda: audio.check_output(path),
        lambda: audio.write(path, speech, RATE),
        lambda: audio.Writer(path, RATE).__enter__(),
    ):
        refused(call, path, "--force")
    assert path.read_bytes() == b"earlier"
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
    (tmp_path / "a.wav").write_bytes(b"earlier")

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if where == "replace" else soundfile.SoundFile, where, fail)
    refused(lambda: audio.write(tmp_path / "a.wav", speech, RATE, force=True), "a.wav", "No space left on device")
    assert (tmp_path / "a.wav").read_bytes() == b"earlier"
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
    monkeypatch.setattr(writing, "CHUNK", 1000)
    for ending in audio.OUTPUT_FORMATS:
        audio.write(tmp_path / f"whole{ending}", speech, RATE)
        with audio.Writer(tmp_path / f"pieces{ending}", RATE) as writer:
            for piece in np.array_split(speech, 7):
                writer.append(piece)
            assert sorted(os.listdir(tmp_path)) == [f"whole{ending}"]  # nothing is seen before the end
        assert (tmp_path / f"whole{ending}").read_bytes() == (tmp_path / f"pieces{ending}").read_bytes()
        (tmp_path / f"whole{ending}").unlink()
        (tmp_path / f"pieces{ending}").unlink()


def test_write_pieces_checks_the_output_before_the_first_piece(tmp_path, speech):
    made = []

    def pieces():
        for piece in np.array_split(speech, 7):
            made.append(piece)
            yield piece

    refused(lambda: audio.write_pieces(tmp_path / "a.mp4", pieces(), RATE), "a.mp4", "end its name")
    assert not made
    audio.write_pieces(tmp_path / "a.wav", pieces(), RATE)
    audio.write(tmp_path / "whole.wav", speech, RATE)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt, OSError, VcvaeError])
@pytest.mark.parametrize("existing", [False, True])
def test_writer_leaves_nothing_after_an_exception(tmp_path, speech, exception, existing):
    path = tmp_path / "a.wav"
    if existing:
        path.write_bytes(b"earlier")

    def interrupted():
        with audio.Writer(path, RATE, force=True) as writer:
            writer.append(speech)
            raise exception("mine")

    with pytest.raises(exception, match="mine"):
        interrupted()
    assert os.listdir(tmp_path) == (["a.wav"] if existing else [])
    assert not existing or path.read_bytes() == b"earlier"
