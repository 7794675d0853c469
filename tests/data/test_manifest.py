import gzip
import json
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet

from tests.corpus import make_corpus
from tests.properties import QUICK, read_or_refused
from tests.synthetic import RATE
from vcvae.data.cuts import MANIFEST
from vcvae.data.manifest import Manifest
from vcvae.errors import VcvaeError


def test_manifest_rows_equal_lhotses_in_any_order(tmp_path):
    folder = make_corpus(tmp_path, speakers=3, utterances=3)
    lines = gzip.decompress((folder / MANIFEST).read_bytes()).splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    (folder / MANIFEST).write_bytes(gzip.compress(b"".join(lines)))
    manifest = Manifest(folder, 22050)
    assert manifest.speakers == ["speaker0", "speaker1", "speaker2"]
    assert list(manifest.speaker) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    rows = {
        (manifest.speakers[manifest.speaker[i]], manifest.samples[i], manifest.bandwidth[i], manifest.path(i))
        for i in range(9)
    }
    assert rows == {
        (
            cut.supervisions[0].speaker,
            cut.recording.num_samples,
            cut.custom["bandwidth"],
            folder / cut.recording.sources[0].source,
        )
        for cut in CutSet.from_file(folder / MANIFEST)
    }


def test_manifest_row_takes_little_memory(tmp_path):
    (cut,) = list(CutSet.from_file(make_corpus(tmp_path, speakers=1, utterances=1) / MANIFEST))
    many = 5000
    with gzip.open(tmp_path / MANIFEST, "wt", compresslevel=1) as file:
        values = cut.to_dict()
        for i in range(many):
            values["recording"]["sources"][0]["source"] = f"../audio/p{i // 400}/p{i // 400}_{i:06d}.flac"
            file.write(json.dumps(values) + "\n")
    tracemalloc.start()
    manifest = Manifest(tmp_path, 22050)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert manifest.path(many - 1).name == f"p12_{many - 1:06d}.flac"
    assert held / many < 100  # bytes


@pytest.fixture(scope="module")
def line(corpus):
    """A cut of a manifest, as a dict."""
    return json.loads(gzip.decompress((corpus / MANIFEST).read_bytes()).splitlines()[0])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("recording", "num_samples"), -1, "line 2: a number of samples is not from 1"),
        (("recording", "num_samples"), 2**40, "line 2: a number of samples is not from 1"),
        (("recording", "sampling_rate"), "22050", "line 2: a number of samples"),
        (("recording", "sources", 0, "source"), ["x"], "line 2: a name is no text"),
        (("supervisions", 0, "speaker"), None, "line 2: a name is no text"),
        (("supervisions", 0, "text"), 3, "line 2: a name is no text"),
        (("supervisions", 0, "text"), "word " * 1000, "line 2: a name is no text, or too long"),
        (("supervisions",), [], "line 2: a value is of another type"),
        (("custom", "bandwidth"), float("nan"), "line 2: the bandwidth is nan"),
        (("custom",), {}, "line 2: 'bandwidth' is missing"),
    ],
)
def test_manifest_names_the_line_that_is_no_cut(tmp_path, line, path, value, message):
    damaged = json.loads(json.dumps(line))
    place = damaged
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / MANIFEST).write_bytes(gzip.compress(f"{json.dumps(line)}\n{json.dumps(damaged)}\n".encode()))
    with pytest.raises(VcvaeError, match=rf"{MANIFEST}: not a manifest of 'vcvae prepare' \({message}"):
        Manifest(tmp_path, 22050)


def test_manifest_refuses_a_line_without_end(tmp_path):
    (tmp_path / MANIFEST).write_bytes(gzip.compress(b"x" * 2**24))
    with pytest.raises(VcvaeError, match="a line of more than 65536 bytes"):
        Manifest(tmp_path, 22050)


@QUICK
@given(st.binary(max_size=30), st.booleans(), st.integers(0, 1000))
def test_manifest_is_read_or_refused_whatever_the_bytes(tmp_path, line, noise, packed, place):
    whole = json.dumps(line).encode()
    data = gzip.compress(whole[:place] + noise + whole[place:])
    if not packed:
        data = data[:place] + noise + data[place:]
    read_or_refused(lambda _: Manifest(tmp_path, 22050), tmp_path / MANIFEST, data)


def test_manifest_leaves_out_long_utterances_with_a_warning(corpus, caplog):
    manifest = Manifest(corpus, RATE)
    every = manifest.utterances()
    manifest.samples[1] *= 4
    assert manifest.utterances(max_seconds=2 * manifest.samples[0] / RATE) == [every[0], *every[2:]]
    assert "1 utterances longer than" in caplog.text
