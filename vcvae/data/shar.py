"""From a prepared folder to lhotse Shar: archives of some twenty minutes, read from front to back from any store.

    shar/index.json                     speakers, and how much each of them says
    shar/shards/cuts.000000.jsonl.gz    and recording.000000.tar: what lhotse's `CutSet.from_shar` reads

A shard is a small corpus of its own: it holds about a minute each of some twenty speakers, drawn by chance.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from lhotse import CutSet
from lhotse.audio.utils import AudioLoadingError
from lhotse.shar import SharWriter

from vcvae.data.prepare import MANIFEST, each
from vcvae.errors import VcvaeError, disk_errors, replacing

INDEX, SHARDS = "index.json", "shards"
SHARD, GROUP = 1200.0, 60.0  # seconds


class Export:
    """The export of a prepared folder to `folder/shar`, done by going through it; shards that are there stay."""

    def __init__(self, folder: str | Path, *, shard: float = SHARD, seed: int = 0, jobs: int = 1) -> None:
        """`shard` in seconds; `seed` of who meets whom in a shard.

        Raises:
            VcvaeError: `folder` is not prepared.
        """
        self.source, self.folder, self.jobs = Path(folder), Path(folder) / "shar", jobs
        manifest = self.source / MANIFEST
        if not manifest.is_file():
            raise VcvaeError(f"{folder}: not prepared audio (no {MANIFEST}); make it with 'vcvae prepare'.")
        self.lines = tempfile.NamedTemporaryFile()  # noqa: SIM115  it lives as long as this
        numbers, speaker, samples, ends, rates = {}, array("i"), array("q"), array("q", [0]), set()
        digest = hashlib.sha256(f"{seed} {shard}".encode())
        with disk_errors(manifest, "read"), gzip.open(manifest) as packed:
            for line in packed:
                cut = json.loads(line)
                self.lines.write(line)
                digest.update(line)
                ends.append(ends[-1] + len(line))
                samples.append(cut["recording"]["num_samples"])
                rates.add(cut["recording"]["sampling_rate"])
                speaker.append(numbers.setdefault(cut["supervisions"][0]["speaker"], len(numbers)))
        self.lines.flush()
        if len(rates) != 1:
            raise VcvaeError(f"{manifest}: lists no utterances, or of several sample rates; prepare again.")
        (self.sample_rate,) = rates
        self.digest, self.names = digest.hexdigest(), list(numbers)
        self.speaker, self.samples, self.ends = np.asarray(speaker), np.asarray(samples), np.asarray(ends)
        self.shards = _deal(self.speaker, self.samples / self.sample_rate, shard, seed)

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[None]:
        """Write what is missing.

        Raises:
            VcvaeError: the disk is full, or audio is missing.
        """
        with disk_errors(self.folder):
            plan = self.folder / "plan"
            if not (plan.is_file() and plan.read_text() == self.digest):  # another corpus, or another choice
                shutil.rmtree(self.folder, ignore_errors=True)
                (self.folder / SHARDS).mkdir(parents=True)
                plan.write_text(self.digest)
            places = (np.stack([self.ends[rows], self.ends[rows + 1]], axis=1) for rows in self.shards)
            work = partial(_write, lines=self.lines.name, folder=self.folder / SHARDS, source=self.source)
            for _ in each(work, range(len(self)), places, jobs=self.jobs):
                yield
            total = np.bincount(self.speaker, self.samples).astype(int).tolist()
            values = {
                "sample_rate": self.sample_rate,
                "shards": len(self),
                "speakers": {self.names[i]: total[i] for i in np.argsort(self.names)},  # samples of each
            }
            with replacing(self.folder / INDEX) as file:
                file.write(json.dumps(values).encode())


def _deal(speaker: np.ndarray, seconds: np.ndarray, shard: float, seed: int) -> list[np.ndarray]:
    """Utterances' speakers (rows,) and lengths (rows,) → the rows of each shard.

    The utterances of a speaker make groups of about a minute, which are shuffled and dealt out, all shards as long.
    """
    order = np.argsort(speaker, kind="stable")
    speaker, seconds = speaker[order], seconds[order]
    total = np.bincount(speaker, seconds)
    before = np.cumsum(seconds) - seconds
    before -= np.concatenate([[0], np.cumsum(total)[:-1]])[speaker]  # of the speaker's own
    count = np.maximum(1, np.round(total / GROUP))
    group = np.floor(before / total[speaker] * count[speaker] + 1e-9).astype(np.int64)
    first = np.flatnonzero(np.diff(speaker * (count.max() + 1) + group, prepend=-1))
    groups = np.split(order, first[1:])
    length = np.add.reduceat(seconds, first)
    shards = max(1, round(length.sum() / shard))
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    start = np.cumsum(length[shuffled]) - length[shuffled]
    number = np.floor(start / length.sum() * shards).astype(np.int64)
    firsts = np.flatnonzero(np.diff(number, prepend=-1))
    return [np.concatenate([groups[i] for i in part]) for part in np.split(shuffled, firsts[1:])]


def _write(number: int, places: np.ndarray, *, lines: str, folder: Path, source: Path) -> None:
    """One shard, of the cuts at `places` (cuts, 2), first and last byte, of the file `lines`."""
    names = [f"recording.{number:06d}.tar", f"cuts.{number:06d}.jsonl.gz"]  # the last says that both are whole
    if (folder / names[-1]).exists():
        return
    with open(lines, "rb") as file, tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        cuts = CutSet.from_dicts(json.loads(os.pread(file.fileno(), last - first, first)) for first, last in places)
        with SharWriter(unfinished, {"recording": "flac"}, shard_size=None, shard_suffix=f".{number:06d}") as writer:
            for cut in cuts.with_recording_path_prefix(source):
                try:
                    writer.write(cut)
                except AudioLoadingError:
                    path = cut.recording.sources[0].source
                    raise VcvaeError(f"{path}: missing or damaged, though it is listed; prepare again.") from None
        for name in names:
            os.replace(Path(unfinished) / name, folder / name)
