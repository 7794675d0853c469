"""Shards hold the cuts of the manifest, and are read without repeating or dropping any, from disk and a server."""

import json
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import numpy as np
import pytest
import soundfile as sf
import torch
from lhotse import CutSet
from rich.console import Console
from torch.utils.data import DataLoader

from tests.corpus import TINY, make_corpus
from tests.synthetic import speak
from vcvae.data import stream as module
from vcvae.data.cuts import MANIFEST
from vcvae.data.load import load
from vcvae.data.prepare import prepare
from vcvae.data.segments import Segments
from vcvae.data.shar import INDEX, SHAR, SHARDS, export_shards
from vcvae.data.stream import ShardExamples
from vcvae.errors import VcvaeError
from vcvae.training import checkpoint
from vcvae.training.batches import ResumableBatchSampler
from vcvae.training.loop import train
from vcvae.training.tasks import parse

RATE, BATCH = 22050, 4
OPTIONS = {"segment": 6000, "sample_rate": RATE, "batch": BATCH}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Six speakers, four utterances of 1.5 s each, in five shards."""
    folder = make_corpus(tmp_path_factory.mktemp("corpus"), speakers=6, utterances=4)
    assert export_shards(folder, shard_seconds=7.2) == 5
    return folder


@pytest.fixture
def stream(prepared):
    return ShardExamples(prepared / "shar", **OPTIONS)


@pytest.fixture
def server(prepared, monkeypatch):
    """Serves the shards, and says of every other path on its first request that it is busy."""
    requested, refused = Counter(), Counter()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            requested[self.path] += 1
            if requested[self.path] == 1 and len(requested) % 2:
                refused[self.path] += 1
                self.send_error(503)
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    monkeypatch.setattr(module, "RETRY_PAUSE", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=prepared)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/shar", requested, refused
        running.shutdown()


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_export_shards_keeps_every_cut(prepared):
    listed = {cut.id: cut for cut in CutSet.from_file(prepared / MANIFEST)}
    sharded = list(CutSet.from_shar(in_dir=prepared / SHAR / SHARDS))
    assert sorted(cut.id for cut in sharded) == sorted(listed)
    for cut in sharded:
        original = listed[cut.id]
        assert cut.supervisions == original.supervisions
        assert (cut.duration, cut.custom["bandwidth"]) == (original.duration, original.custom["bandwidth"])
        samples = sf.read(prepared / original.recording.sources[0].source, dtype="float32")[0]
        np.testing.assert_array_equal(cut.load_audio()[0], samples)


def test_load_gives_no_parallel_speech_from_shards(prepared):
    assert "parallel" not in load(str(prepared / "shar"), parallel=True, **OPTIONS)[0]


def test_stream_examples_are_segments_of_their_speaker(prepared, stream):
    segments = Segments(prepared, segment=6000, sample_rate=RATE)
    assert (stream.speakers, stream.voices, stream.samples) == (segments.speakers, segments.voices, segments.samples)
    recordings = {name: [] for name in stream.speakers}
    for cut in CutSet.from_file(prepared / MANIFEST):
        path = prepared / cut.recording.sources[0].source
        recordings[cut.supervisions[0].speaker].append(sf.read(path, dtype="float32")[0])
    for n in range(20):
        example = stream[n]
        assert example["samples"].shape == (2, 6000)
        assert {name: value.dtype for name, value in example.items()} == {
            name: value.dtype for name, value in segments[n].items()
        }
        for segment in example["samples"]:
            places = [
                (u, at)
                for u in recordings[stream.speakers[example["speaker"]]]
                for at in np.flatnonzero(u == segment[0])
            ]
            assert any(np.array_equal(u[at : at + 6000], segment) for u, at in places)


def test_stream_example_n_depends_on_seed_and_n_only(prepared, stream):
    again = ShardExamples(prepared / "shar", **OPTIONS, seed=0)
    other = ShardExamples(prepared / "shar", **OPTIONS, seed=1)
    for n in (500, 7, 123, 8):
        assert_same(stream[n], again[n])
    assert any((stream[n]["samples"] != other[n]["samples"]).any() for n in range(4))


def test_stream_reads_every_shard_once_before_any_again(stream):
    assert stream.lanes == 4
    places = [stream.locate(n) for n in range(40 * stream.lanes * stream.examples_per_shard)]
    assert set(Counter(places).values()) == {1}
    for lane in range(stream.lanes):
        visited = [(visit, within) for number, visit, within in places if number == lane]
        first = lane * stream.examples_per_shard // stream.lanes
        walk = [divmod(first + i, stream.examples_per_shard) for i in range(len(visited))]
        assert visited == [(turn * stream.lanes + lane, within) for turn, within in walk]
    for epoch in range(3):
        assert sorted(stream.shard(epoch * 5 + i) for i in range(5)) == list(range(5))
    assert [stream.shard(i) for i in range(5)] != [stream.shard(5 + i) for i in range(5)]
    for n in range(0, 4000, BATCH):  # a batch is of one lane
        assert len({stream.locate(n + i)[0] for i in range(BATCH)}) == 1


@pytest.mark.parametrize(("processes", "workers"), [(1, 1), (2, 1), (2, 2), (1, 3)])
def test_stream_readers_share_the_shards_exactly(prepared, stream, monkeypatch, processes, workers):
    readers, batches, opened = processes * workers, 24, Counter()
    shards = module._Shard

    def count(place, number, speakers):
        opened[number] += 1
        return shards(place, number, speakers)

    monkeypatch.setattr(module, "_Shard", count)
    read = {}
    for process in range(processes):
        for worker in range(workers):
            reader = ShardExamples(prepared / "shar", **OPTIONS)
            dealt = ResumableBatchSampler(BATCH, 0, process=process, processes=processes)
            own = list(islice(dealt, batches // processes))[worker::workers]
            for n in (n for numbers in own for n in numbers):
                assert n not in read
                read[n] = reader[n]
    assert sorted(read) == list(range(batches * BATCH))
    visited = {stream.locate(n)[1] for n in read}
    if stream.lanes % readers == 0:
        assert sum(opened.values()) == len(visited)  # each shard by one reader, once a visit
    for n in (0, 17, 50, batches * BATCH - 1):
        assert_same(read[n], stream[n])


def test_stream_workers_read_what_one_process_reads(stream):
    sampler = ResumableBatchSampler(BATCH, 24, process=1, processes=2)
    with_workers = DataLoader(stream, batch_sampler=sampler, num_workers=2)
    alone = DataLoader(stream, batch_sampler=sampler)
    for a, b in islice(zip(with_workers, alone, strict=False), 6):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_stream_run_resumes_exactly(prepared, tmp_path):
    values = {
        "task": "conversion",
        "data": {"train": str(prepared / "shar"), "dev": str(prepared)},
        "batch_speakers": 2,
        "segment_frames": 16,
        "validation_speakers": 2,
        "model": TINY,
    }
    for name, stops in (("whole", [(6, 0)]), ("resumed", [(3, 0), (6, 1)])):
        for steps, workers in stops:
            changes = {
                "output": str(tmp_path / name),
                "steps": steps,
                "workers": workers,
                "optimizer": {"final_share": 1.0},
            }
            train(parse(values | changes, context="test"), Console(quiet=True))
    whole = checkpoint.load(tmp_path / "whole")["task"]
    resumed = checkpoint.load(tmp_path / "resumed")["task"]
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_stream_draws_speakers_by_the_root_of_their_speech(tmp_path):
    for name, count in (("much", 18), ("little", 2)):
        (tmp_path / "source" / name).mkdir(parents=True)
        for i in range(count):
            sf.write(tmp_path / "source" / name / f"{i}.wav", speak("aiueo", seconds=1.2, seed=i), RATE)
    prepare("folder", tmp_path / "source", tmp_path / "ready", sample_rate=RATE, dev=0, test=0)
    export_shards(tmp_path / "ready" / "train")
    stream = ShardExamples(tmp_path / "ready" / "train" / "shar", segment=6000, sample_rate=RATE, batch=BATCH)
    drawn = Counter(
        stream.speakers[stream._start_turn(visit)[1][i]]
        for visit in range(10)
        for i in range(stream.examples_per_shard)
    )
    assert drawn["much"] / drawn["little"] == pytest.approx(3, rel=0.1)


def test_stream_from_a_server_equals_that_from_disk(server, stream):
    url, requested, refused = server
    remote, numbers = load(url, **OPTIONS), range(0, 60, 3)
    for n in numbers:
        assert_same(remote[n], stream[n])
    assert refused
    visits = {stream.locate(n)[1] for n in numbers}
    fetched = requested - refused
    assert sum(times for path, times in fetched.items() if path.endswith(".tar")) == len(visits)


def test_stream_names_a_store_that_cannot_be_read(server, monkeypatch):
    url, *_ = server
    for place in (f"{url}/nothing", "http://127.0.0.1:9/shar"):
        with pytest.raises(VcvaeError, match="cannot be read") as error:
            load(place, **OPTIONS)
        assert "\n" not in str(error.value)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(VcvaeError, match="extra 'stream'"):
        load(url, **OPTIONS)


def test_load_names_what_is_wrong_with_shards(prepared, tmp_path):
    with pytest.raises(VcvaeError, match="prepared at 22050 Hz"):
        load(str(prepared / "shar"), **(OPTIONS | {"sample_rate": 16000}))
    with pytest.raises(VcvaeError, match="no speaker has 2 segments"):
        load(str(prepared / "shar"), **(OPTIONS | {"segment": 3 * RATE}))
    with pytest.raises(VcvaeError, match="not prepared"):
        export_shards(tmp_path)
    (tmp_path / SHARDS).mkdir()
    with pytest.raises(VcvaeError, match=r"index.json: cannot be read .*No such file"):
        load(str(tmp_path), **OPTIONS)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(VcvaeError, match=r"index.json: cannot be read .*sample_rate"):
        load(str(tmp_path), **OPTIONS)
    listed = (prepared / SHAR / SHARDS / "cuts.000000.jsonl.gz").read_bytes()
    (tmp_path / SHARDS / "cuts.000000.jsonl.gz").write_bytes(listed)
    (tmp_path / INDEX).write_text(json.dumps({"sample_rate": RATE, "shards": 1, "speakers": {"nobody": 1}}))
    with pytest.raises(VcvaeError, match=r"cuts.000000.jsonl.gz: cannot be read"):
        load(str(tmp_path), **OPTIONS)


def test_export_shards_again_writes_missing_shards_and_a_changed_corpus_anew(tmp_path):
    folder = make_corpus(tmp_path, speakers=4, utterances=2)
    reported = []
    assert export_shards(folder, shard_seconds=4.0, progress=lambda *progress: reported.append(progress)) == 3
    assert [done for done, total, _ in reported if total == 3] == [0, 1, 2, 3]
    index = json.loads((folder / SHAR / INDEX).read_text())
    assert index["shards"] == 3
    listed = CutSet.from_file(folder / MANIFEST)
    assert sum(index["speakers"].values()) == sum(cut.recording.num_samples for cut in listed)
    shards = sorted((folder / SHAR / SHARDS).iterdir())
    times = {path: path.stat().st_mtime_ns for path in shards}
    shards[0].unlink()  # as if a run had been killed
    export_shards(folder, shard_seconds=4.0, jobs=2)
    assert sorted((folder / SHAR / SHARDS).iterdir()) == shards
    made_again = {path.name for path in shards if path.stat().st_mtime_ns != times[path]}
    assert made_again == {"cuts.000000.jsonl.gz", "recording.000000.tar"}
    assert {path.name for path in (folder / SHAR).iterdir()} == {INDEX, SHARDS, "plan"}
    export_shards(folder, shard_seconds=6.0)
    assert len(list((folder / SHAR / SHARDS).iterdir())) == 4


def test_prepare_command_writes_shards(tmp_path, vcvae):
    make_corpus(tmp_path, speakers=4, utterances=2)
    call = ("prepare", "folder", tmp_path / "source", tmp_path / "ready", "--jobs", 1, "--shar", "--test", 0)
    code, out, _ = vcvae(*call)
    assert code == 0
    assert "8 utterances; speakers: train 3, dev 1, test 0" in out
    for name, count in (("train", 3), ("dev", 1)):
        place = tmp_path / "ready" / name / "shar"
        assert f"{place}: 1 shard\n" in out
        assert len(load(str(place), **OPTIONS).speakers) == count


def test_export_shards_names_missing_audio(tmp_path):
    folder = make_corpus(tmp_path, speakers=2, utterances=2)
    next(tmp_path.rglob("ready/**/*.flac")).unlink()
    with pytest.raises(VcvaeError, match="missing or damaged"):
        export_shards(folder)
    assert not (folder / SHAR / INDEX).exists()
    assert not list((folder / SHAR / SHARDS).iterdir())
