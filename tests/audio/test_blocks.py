"""Reading in blocks: the same samples as the whole file, in bounded memory."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.audio.files import cached_speech, cut, put, refused, sine
from tests.synthetic import RATE
from vcvae import audio
from vcvae.audio import opening


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
@pytest.mark.parametrize("rate", [RATE, 44100])
@pytest.mark.parametrize("seconds", [0.1, 0.7])
def test_blocks_join_to_the_file(tmp_path, monkeypatch, name, rate, seconds):
    loud = np.stack(
        [cached_speech("aiue", seconds=1, sample_rate=rate), cached_speech("uuaa", seconds=1, sample_rate=rate)], axis=1
    )
    path = put(tmp_path / name, loud, rate)
    whole, _ = soundfile.read(str(path), always_2d=True)  # in one piece
    monkeypatch.setattr(opening, "CHUNK", 3001)  # many joints, at odd places
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
    monkeypatch.setattr(opening, "CHUNK", 4410)
    chunks = opening.AudioFile.chunks
    monkeypatch.setattr(
        opening.AudioFile, "chunks", lambda self, *most: (decoded.append(len(c)) or c for c in chunks(self, *most))
    )
    stream = audio.blocks(put(tmp_path / "a.wav", sine(300, 4.0)), RATE, 0.5)
    assert decoded == []
    next(stream)
    assert sum(decoded) < RATE
    stream.close()


def test_blocks_of_a_whole_number_have_no_empty_last_one(tmp_path):
    assert [len(b) for b in audio.blocks(put(tmp_path / "a.wav", sine(300, 2.0)), RATE, 0.5)] == [11025] * 4


def test_blocks_check_the_whole_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "CHUNK", 4096)
    silent = audio.blocks(put(tmp_path / "a.wav", np.zeros(RATE)), RATE, 0.25)
    assert not next(silent).any()
    refused(lambda: list(silent), "a.wav", "silent")
    damaged = audio.blocks(cut(put(tmp_path / "a.flac", sine(300, 4.0))), RATE, 0.25)
    assert next(damaged).any()
    refused(lambda: list(damaged), "a.flac", "cut short")


@pytest.mark.slow
def test_blocks_of_a_long_file_need_bounded_memory(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(str(path), "w", 16000, 1, "PCM_16") as file:
        for _ in range(120):
            file.write(sine(300, 10, 16000))
    program = (
        "import resource, sys; from vcvae import audio\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak()\n"
        "audio.write_pieces(sys.argv[2], audio.blocks(sys.argv[1], 16000, 10), 16000)\n"
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


def test_what_follows_after_the_largest_length_is_neither_read_nor_checked(tmp_path):
    loud = np.concatenate([sine(300, 2.0), np.full(RATE, np.nan), np.zeros(RATE)])
    path = put(tmp_path / "a.wav", loud, subtype="FLOAT")
    assert len(audio.read(path, RATE, max_seconds=2)) == 2 * RATE
    (block,) = audio.blocks(path, RATE, 2.0, max_seconds=2)
    assert len(block) == 2 * RATE
    refused(lambda: audio.read(path, RATE, max_seconds=3), "a.wav", "NaN")


def test_read_refuses_a_recording_whose_used_part_is_silent(tmp_path):
    path = put(tmp_path / "a.wav", np.concatenate([np.zeros(6 * RATE), sine(300, 2.0)]))
    refused(lambda: audio.read(path, RATE, max_seconds=6), "a.wav", "silent in its first 0.1 minutes")
    assert len(audio.read(path, RATE)) == 8 * RATE


def test_read_reports_the_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "CHUNK", RATE)
    reports = []
    path = put(tmp_path / "a.wav", sine(300, 3.0))
    audio.read(path, 16000, max_seconds=2, progress=lambda *report: reports.append(report))
    assert {report[1:] for report in reports} == {(2, "reading, seconds")}
    assert [report[0] for report in reports][:: len(reports) - 1] == [0, 1]
    reports.clear()
    list(audio.blocks(put(path, sine(300, 3.0), subtype="FLOAT"), 16000, 1.0, progress=lambda *r: reports.append(r)))
    assert reports == [(second, 3, "measuring the peak, seconds") for second in range(3)]


@pytest.mark.parametrize(("name", "seconds"), [("a.wav", 1.5), ("a.flac", 1.5), ("a.ogg", 1.5)])
def test_duration_is_what_the_header_says(tmp_path, name, seconds):
    assert audio.duration(put(tmp_path / name, sine(300, seconds))) == pytest.approx(seconds, abs=0.01)
