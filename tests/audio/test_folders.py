"""Finding the audio files of a folder."""

import os

import pytest

from tests.audio.files import put, refused
from tests.synthetic import RATE
from vcvae import audio
from vcvae.audio import folders


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
    assert list(audio.find_readable(tmp_path, pytest.fail)) == [tmp_path / name]
    assert len(audio.read(tmp_path / name, RATE)) == len(speech)


def test_find_readable_gives_a_reason_for_each_other_audio_file(tmp_path, speech):
    put(tmp_path / "good.wav", speech)
    (tmp_path / "phone.M4A").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(400))
    (tmp_path / "empty.wav").touch()
    (tmp_path / "lost.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "notes.txt").write_text("no audio")
    os.mkfifo(tmp_path / "pipe.wav")
    left_out = []

    def find(path=tmp_path):
        return list(audio.find_readable(path, lambda file, why: left_out.append((file, why))))

    assert find() == [tmp_path / "good.wav"]
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
    refused(find, tmp_path, "none of its 5 audio files can be read")
    refused(lambda: find(tmp_path / "empty.wav"), "empty.wav", "0 bytes")


def test_find_readable_opens_a_file_when_it_is_asked_for(tmp_path, speech, monkeypatch):
    for name in "abc":
        put(tmp_path / f"{name}.wav", speech)
    opened = []
    open_audio = folders.open_audio
    monkeypatch.setattr(folders, "open_audio", lambda path: opened.append(path.name) or open_audio(path))
    files = audio.find_readable(tmp_path, pytest.fail)
    assert (next(files).name, next(files).name, opened) == ("a.wav", "b.wav", ["a.wav", "b.wav"])


def test_find_refuses_what_holds_no_audio(tmp_path, speech):
    refused(lambda: audio.find(tmp_path), tmp_path, ".flac", ".wav")
    refused(lambda: audio.find(tmp_path / "none"), tmp_path / "none")
    refused(lambda: audio.find(put(tmp_path / "a.wav", speech)), "a.wav")
