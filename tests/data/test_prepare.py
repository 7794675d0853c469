import os

import numpy as np
import pytest
import soundfile as sf
import soxr
from lhotse import CutSet

from tests.synthetic import speak
from vcvae.data import prepare as module
from vcvae.data.cuts import MANIFEST
from vcvae.data.manifest import Manifest
from vcvae.data.pool import map_in_processes
from vcvae.data.prepare import REPORT, split
from vcvae.errors import VcvaeError
from vcvae.features.mel import bandwidth


def prepare(source, destination, **options):
    return module.prepare("folder", source, destination, **({"sample_rate": 22050} | options))


def cuts_of(ready):
    return list(CutSet.from_file(ready / "train" / MANIFEST))


@pytest.fixture
def speakers(tmp_path):
    for name, f0 in [("low", 100), ("high", 200)]:
        folder = tmp_path / "source" / name / "session 1"
        folder.mkdir(parents=True)
        for i in range(2):
            sf.write(folder / f"{i}.wav", speak("aisoeu", f0=f0, seconds=1.5, seed=i), 22050)
    sf.write(tmp_path / "source" / "low" / "short.flac", speak("a", seconds=0.2), 22050)
    (tmp_path / "source" / "high" / "broken.mp3").write_text("no audio")
    return tmp_path / "source"


def test_prepare_uses_every_file_or_reports_why_not(speakers, tmp_path):
    reported = []
    report = prepare(speakers, tmp_path / "ready", sample_rate=16000, progress=lambda *args: reported.append(args))
    assert reported == [(done, 6, "preparing") for done in range(7)]
    assert report.utterances == 4
    left_out = {path.name: reason for path, reason in report.left_out}
    assert set(left_out) == {"short.flac", "broken.mp3"}
    assert "too short" in left_out["short.flac"]
    manifest = tmp_path / "ready" / "train" / MANIFEST  # two speakers are too few for more
    cuts = list(CutSet.from_file(manifest))
    assert {(cut.id, cut.supervisions[0].speaker) for cut in cuts} == {
        (f"{name}/session 1/{i}.wav", name) for name in ("low", "high") for i in range(2)
    }
    for cut in cuts:
        path = manifest.parent / cut.recording.sources[0].source
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.frames) == (16000, 1, cut.recording.num_samples)
        assert 0 < cut.custom["bandwidth"] <= 8000 * 1.01


def test_prepare_again_follows_changed_options(speakers, tmp_path):
    ready = tmp_path / "ready"
    prepare(speakers, ready)
    prepare(speakers, ready, sample_rate=16000)
    for cut in cuts_of(ready):
        assert sf.info(ready / "train" / cut.recording.sources[0].source).samplerate == cut.sampling_rate == 16000
    with pytest.raises(VcvaeError, match="none of its"):
        prepare(speakers, ready, sample_rate=16000, minimum_seconds=60)


def test_prepare_leaves_out_loose_files_and_follows_links(speakers, tmp_path):
    sf.write(speakers / "loose.wav", speak("a"), 22050)
    (speakers / "again").symlink_to(speakers / "high" / "session 1")
    (speakers / "low" / "loop").symlink_to(speakers / "low")
    report = prepare(speakers, tmp_path / "ready")
    assert "loose.wav" in {path.name for path, _ in report.left_out}
    assert {cut.supervisions[0].speaker for cut in cuts_of(tmp_path / "ready")} >= {"again", "low"}


def test_prepare_again_keeps_what_is_done(speakers, tmp_path):
    ready = tmp_path / "ready"
    prepare(speakers, ready)
    first = cuts_of(ready)
    times = {p: p.stat().st_mtime_ns for p in ready.rglob("*.flac")}
    prepare(speakers, ready, jobs=2)
    second = cuts_of(ready)
    assert {p: p.stat().st_mtime_ns for p in ready.rglob("*.flac")} == times
    assert [cut.id for cut in first] == [cut.id for cut in second]
    assert first == second
    manifest = (ready / "train" / MANIFEST).read_bytes()
    next(ready.rglob("*.flac")).unlink()
    (ready / "audio" / "low" / "cuts.jsonl").unlink()  # as if that run had been killed on its way
    prepare(speakers, ready)
    third = cuts_of(ready)
    made_again = [p for p in ready.rglob("*.flac") if p.stat().st_mtime_ns != times[p]]
    assert len(made_again) == 1
    for a, b in zip(first, third, strict=True):
        assert (a.id, a.duration) == (b.id, b.duration)
        assert abs(a.custom["bandwidth"] - b.custom["bandwidth"]) < 100
    prepare(speakers, ready, jobs=2)
    assert len((ready / "train" / MANIFEST).read_bytes()) == pytest.approx(len(manifest), abs=20)


def test_prepare_again_follows_changed_transcripts(speakers, tmp_path):
    def texts():
        prepare(speakers, tmp_path / "ready")
        return [cut.supervisions[0].text for cut in cuts_of(tmp_path / "ready")]

    transcript = speakers / "high" / "session 1" / "0.txt"
    assert texts() == [None] * 4
    transcript.write_text("one two")
    assert texts() == ["one two", None, None, None]
    transcript.write_text("word " * 4096)  # no utterance says so much
    assert texts() == [None] * 4
    transcript.write_bytes(b"\xff\xfe")
    assert texts() == [None] * 4


def test_prepare_stops_on_a_full_disk_and_replaces_a_damaged_result(speakers, tmp_path, monkeypatch):
    ready = tmp_path / "ready"

    def fill(path, *_, **__):
        raise VcvaeError(f"{path}: cannot be written (No space left on device); give another path.")

    with monkeypatch.context() as full:
        full.setattr("vcvae.data.prepare.audio.write", fill)
        with pytest.raises(VcvaeError, match="No space left"):
            prepare(speakers, ready)
    assert not list(ready.rglob("*.flac"))
    assert not (ready / "train").exists()
    prepare(speakers, ready)
    manifest = (ready / "train" / MANIFEST).read_bytes()
    damaged = next((ready / "audio" / "low").rglob("*.flac"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:20])
    (ready / "audio" / "low" / "cuts.jsonl").unlink()
    prepare(speakers, ready)
    assert damaged.read_bytes() == whole
    assert len((ready / "train" / MANIFEST).read_bytes()) == pytest.approx(len(manifest), abs=20)


def test_prepare_reports_clipped_silent_and_missing_audio(speakers, tmp_path):
    loud = np.clip(100 * speak("aisoeu", seconds=1.5), -1, 1)
    sf.write(speakers / "low" / "clipped.wav", loud, 22050)
    sf.write(speakers / "low" / "full.wav", 3 * loud, 22050, subtype="FLOAT")
    sf.write(speakers / "low" / "loud.wav", 3 * speak("aisoeu", seconds=1.5), 22050, subtype="FLOAT")  # not clipped
    sf.write(speakers / "low" / "silent.wav", np.zeros(44100), 22050)
    (speakers / "low" / "empty.wav").touch()
    (speakers / "low" / "pointer.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    prepare(speakers, tmp_path / "ready")
    rows = [line.split("\t") for line in (tmp_path / "ready" / REPORT).read_text().splitlines()]
    assert rows[0] == ["file", "reason"]
    reasons = {name.rsplit("/", 1)[1]: reason for name, reason in rows[1:]}
    assert reasons.keys() == {
        "broken.mp3", "clipped.wav", "empty.wav", "full.wav", "pointer.wav", "short.flac", "silent.wav"
    }  # fmt: skip
    for name, reason in [("clipped", "at full scale"), ("full", "clipped"), ("silent", "silent"), ("pointer", "LFS")]:
        assert reason in reasons[f"{name}.wav"]


def test_prepare_leaves_out_recordings_of_hours(speakers, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_HOURS", 1.2 / 3600)
    sf.write(speakers / "low" / "fits.wav", speak("aisoeu", seconds=1.1), 22050)
    report = prepare(speakers, tmp_path / "ready")
    assert report.utterances == 1
    reasons = {path.name: reason for path, reason in report.left_out}
    assert "hours long; cut it into parts" in reasons["0.wav"]


def test_split_puts_each_speaker_into_one_split():
    names = [f"p{i}" for i in range(200)]
    splits = split(names, dev=None, test=30, seed=1)
    assert {name: len(chosen) for name, chosen in splits.items()} == {"train": 150, "dev": 20, "test": 30}
    assert sorted(name for chosen in splits.values() for name in chosen) == sorted(names)
    assert split(names[::-1], dev=None, test=30, seed=1) == splits
    assert split(names, dev=None, test=30, seed=2) != splits
    more = split([*names, "new"], dev=20, test=30, seed=1)
    assert len(set(more["dev"]) & set(splits["dev"])) >= 19
    assert len(set(more["test"]) & set(splits["test"])) >= 29
    assert split(names, dev=0, test=0, seed=0) == {"train": sorted(names), "dev": [], "test": []}
    assert len(split([str(i) for i in range(5000)], dev=None, test=None, seed=0)["dev"]) == 64
    with pytest.raises(VcvaeError, match="leave none of 3 speakers"):
        split(["a", "b", "c"], dev=1, test=2, seed=0)


def test_prepare_refuses_an_impossible_split_before_the_work(speakers, tmp_path):
    with pytest.raises(VcvaeError, match="leave none of 2 speakers"):
        prepare(speakers, tmp_path / "ready", dev=2)
    assert not (tmp_path / "ready").exists()


def test_map_in_processes_names_a_killed_process():
    with pytest.raises(VcvaeError, match="--jobs: a process was killed"):
        list(map_in_processes(os._exit, [1, 1, 1], jobs=2))


def test_prepare_with_another_split_replaces_the_first(tmp_path):
    for name in "abcde":
        (tmp_path / "source" / name).mkdir(parents=True)
        sf.write(tmp_path / "source" / name / "1.wav", speak("aisoeu", seconds=1.5), 22050)
    ready = tmp_path / "ready"

    def listed():
        return {
            path.parent.name: {cut.supervisions[0].speaker for cut in CutSet.from_file(path)}
            for path in ready.glob(f"*/{MANIFEST}")
        }

    report = prepare(tmp_path / "source", ready)
    assert report.utterances == 5
    first = listed()
    assert {name: len(speakers) for name, speakers in first.items()} == {"train": 3, "dev": 1, "test": 1}
    assert first == {name: set(speakers) for name, speakers in report.splits.items()}
    exported = ready / "train" / "shar" / "index.json"
    exported.parent.mkdir()
    exported.touch()
    prepare(tmp_path / "source", ready)
    assert exported.exists()
    assert listed() == first
    prepare(tmp_path / "source", ready, dev=0, test=0)
    assert listed() == {"train": set("abcde")}
    assert not exported.exists()  # it would hold what is no longer the split


@pytest.mark.parametrize("rate", [8000, 16000])
def test_bandwidth_is_that_of_the_recording_and_not_of_its_file(rate):
    noisy = speak("asifuo", seconds=2.0) + 0.003 * np.random.default_rng(0).standard_normal(44100)
    narrow = soxr.resample(soxr.resample(noisy, 22050, rate), rate, 22050)
    rounded = np.round(narrow * 2**15) / 2**15  # as it would be read from a 16-bit file
    assert bandwidth(rounded, 22050) == pytest.approx(rate / 2, rel=0.06)
    assert bandwidth(noisy, 22050) > 10500


def test_prepare_names_what_is_wrong_with_the_source(tmp_path):
    with pytest.raises(VcvaeError, match="no folder with audio files"):
        prepare(tmp_path / "nowhere", tmp_path / "ready")
    source = tmp_path / "source"
    source.mkdir()
    sf.write(source / "loose.wav", speak("a"), 22050)
    with pytest.raises(VcvaeError, match="no speaker folders"):
        prepare(source, tmp_path / "ready")
    (source / "speaker").mkdir()
    (source / "speaker" / "a.wav").write_text("no audio")
    with pytest.raises(VcvaeError, match="none of its 2 files"):
        prepare(source, tmp_path / "ready")
    with pytest.raises(VcvaeError, match="lies within"):
        prepare(source, source / "ready")
    assert not (tmp_path / "ready" / MANIFEST).exists()


def test_prepare_lists_a_parallel_group_and_keeps_its_silences(tmp_path):
    silence = np.zeros(22050)
    source, ready = tmp_path / "source", tmp_path / "ready"
    for name in ("two-a", "two-b", "c"):
        (source / name).mkdir(parents=True)
        sf.write(source / name / "0.wav", np.concatenate([silence, speak("aiueo"), silence]), 22050)

    def lengths():
        return {path.parent.name: sf.info(path).frames for path in ready.rglob("*.flac")}

    prepare(source, ready)
    assert max(lengths().values()) < 2 * 22050
    assert Manifest(ready / "train", 22050).parallel_group.tolist() == [-1, -1, -1]
    prepare(source, ready, parallel="two-")  # the group's recordings are made again
    assert lengths()["two-a"] == lengths()["two-b"] == 3 * 22050
    assert lengths()["c"] < 2 * 22050
    manifest = Manifest(ready / "train", 22050)
    assert manifest.speakers == ["c", "two-a", "two-b"]
    assert manifest.parallel_group.tolist() == [-1, 0, 0]
    assert [cut.custom.get("parallel_group") for cut in cuts_of(ready)] == [None, "two-", "two-"]
    with pytest.raises(VcvaeError, match="--parallel c: the names of fewer than two speakers"):
        prepare(source, ready, parallel="c")
