"""Memory and time of opening prepared corpora of several sizes. Run by hand: `python tests/bench/manifest.py`.

For manifests of 10 thousand and 1 million cuts, made for the purpose (a speaker has 400), and for shards of as many
(which are one, linked again and again): private memory that opening the corpus and drawing 500 examples adds to a
process, and the seconds that opening takes. Beside it, what the same manifest takes as a list of lhotse's cuts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf

RATE, SECONDS, PER_SPEAKER = 22050, 5.0, 400
CHILD = """
import sys, time
import numpy as np
import lhotse, torch, vcvae.data.segments, vcvae.data.stream
from vcvae.data.load import load

def private():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024

place, form = sys.argv[1:]
before, began = private(), time.perf_counter()
if form == "cuts":
    held = list(lhotse.CutSet.from_jsonl_lazy(place + "/cuts.jsonl.gz"))
    opened = time.perf_counter()
else:
    held = load(place, segment=33024, count=4, sample_rate=22050, speeds=(0.89, 1.0, 1.125), batch=8)
    opened = time.perf_counter()
    if form == "manifest":
        vcvae.data.segments.sf.read = lambda path, frames, start, dtype: (np.zeros(frames, dtype), 22050)
    for n in range(500):
        held[n]
print(f"{private() - before:8.1f} MB {opened - began:8.2f} s")
"""


def make_manifest(folder: Path, cuts: int) -> None:
    """A manifest as `vcvae prepare` writes it, of audio that is not there."""
    folder.mkdir()
    samples = round(SECONDS * RATE)
    with gzip.open(folder / "cuts.jsonl.gz", "wt", compresslevel=1) as file:
        for i in range(cuts):
            speaker = f"speaker{i // PER_SPEAKER:06d}"
            name = f"{speaker}/utterance-{i:09d}"
            source = {"type": "file", "channels": [0], "source": f"../audio/{name}.flac"}
            recording = {"id": name, "sources": [source], "sampling_rate": RATE, "num_samples": samples}
            recording |= {"duration": SECONDS, "channel_ids": [0]}
            supervision = {"id": name, "recording_id": name, "start": 0.0, "duration": SECONDS, "channel": 0}
            cut = {"id": name, "start": 0.0, "duration": SECONDS, "channel": 0}
            cut |= {"supervisions": [supervision | {"speaker": speaker}], "recording": recording}
            cut |= {"custom": {"bandwidth": 10000}, "type": "MonoCut"}
            file.write(json.dumps(cut) + "\n")


def make_shards(folder: Path, cuts: int) -> None:
    """Twenty minutes of noise by twenty speakers, exported, and linked as often as `cuts` are."""
    from vcvae.data.prepare import prepare
    from vcvae.data.shar import export_shards

    noise, each = np.random.default_rng(0), 12
    for k in range(20):
        (folder / "source" / f"speaker{k:06d}").mkdir(parents=True)
        for i in range(each):
            samples = 0.1 * noise.standard_normal(round(SECONDS * RATE))
            sf.write(folder / "source" / f"speaker{k:06d}" / f"{i}.wav", samples, RATE)
    prepare("folder", folder / "source", folder / "ready", sample_rate=RATE, dev=0, test=0)
    place = folder / "ready" / "train"
    export_shards(place)
    shards = cuts // (20 * each)
    for number in range(1, shards):
        for name in ("cuts.{:06d}.jsonl.gz", "recording.{:06d}.tar"):
            (place / "shar" / "shards" / name.format(number)).symlink_to(name.format(0))
    speakers = {f"speaker{k:06d}": round(PER_SPEAKER * SECONDS * RATE) for k in range(cuts // PER_SPEAKER)}
    index = {"sample_rate": RATE, "shards": shards, "speakers": speakers}
    (place / "shar" / "index.json").write_text(json.dumps(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, nargs="+", default=[10_000, 1_000_000])
    for cuts in parser.parse_args().cuts:
        with tempfile.TemporaryDirectory() as temporary:
            manifest, shards = Path(temporary) / "manifest", Path(temporary) / "shards"
            make_manifest(manifest, cuts)
            make_shards(shards, cuts)
            forms = {"manifest": manifest, "shards": shards / "ready" / "train" / "shar"}
            if cuts <= 100_000:  # a million would not fit into every machine
                forms["cuts"] = manifest
            for form, place in forms.items():
                call = [sys.executable, "-c", CHILD, str(place), form]
                result = subprocess.run(call, capture_output=True, text=True, check=True)
                print(f"{cuts:9,} cuts, {form:8}: {result.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
