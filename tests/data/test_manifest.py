import gzip
import json
import random
import tracemalloc

from lhotse import CutSet

from tests.corpus import make_corpus
from vcvae.data.manifest import Manifest
from vcvae.data.prepare import MANIFEST


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
    many = 20_000
    with gzip.open(tmp_path / MANIFEST, "wt", compresslevel=1) as file:
        values = cut.to_dict()
        for i in range(many):
            values["recording"]["sources"][0]["source"] = f"../audio/p{i // 400}/p{i // 400}_{i:06d}.flac"
            file.write(json.dumps(values) + "\n")
    tracemalloc.start()
    manifest = Manifest(tmp_path, 22050)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert manifest.path(many - 1).name == f"p49_{many - 1:06d}.flac"
    assert held / many < 100  # bytes
