"""From a prepared folder to lhotse Shar: archives of some twenty minutes, which are read sequentially from any store.

    shar/index.json                     speakers, and the number of samples of each
    shar/shards/cuts.000000.jsonl.gz    and recording.000000.tar: what lhotse's `CutSet.from_shar` reads

A shard is a small corpus of its own: about a minute each of some twenty speakers, drawn at random.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from array import array
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from lhotse import CutSet
from lhotse.audio.utils import AudioLoadingError
from lhotse.shar import SharWriter

from vcvae.data.cuts import MANIFEST, read_manifest
from vcvae.data.pool import map_in_processes
from vcvae.errors import VcvaeError, disk_errors, remove_unfinished, replacing, temporary_folder
from vcvae.progress import Progress, no_progress

SHAR = "shar"  # the folder of the shards and of their index, in the prepared one
INDEX, SHARDS = "index.json", "shards"
SHARD_SECONDS = 1200.0
GROUP_SECONDS = 60.0  # of one speaker in a shard, about


def export_shards(
    folder: str | Path,
    *,
    shard_seconds: float = SHARD_SECONDS,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress = no_progress,
) -> int:
    """Export a prepared folder to `folder/shar`; complete shards of the same corpus are kept. Returns their number.

    Args:
        shard_seconds: mean length of a shard.
        seed: of the assignment of utterances to shards.
        jobs: processes.
        progress: called with the number of shards done.

    Raises:
        VcvaeError: `folder` is not prepared, the disk is full, or audio is missing.
    """
    source, destination = Path(folder), Path(folder) / SHAR
    manifest = source / MANIFEST
    if not manifest.is_file():
        raise VcvaeError(f"{folder}: not prepared audio (no {MANIFEST}); make it with 'vcvae prepare'.")
    remove_unfinished(destination)
    with temporary_folder() as temporary:
        lines = temporary / "cuts.jsonl"
        cuts = _read_manifest(manifest, lines)
        plan = hashlib.sha256(f"{seed} {shard_seconds}".encode() + cuts.digest).hexdigest()
        shards = _assign(cuts.speaker, cuts.samples / cuts.sample_rate, shard_seconds, seed)
        with disk_errors(destination):
            plan_file = destination / "plan"
            if not (plan_file.is_file() and plan_file.read_text() == plan):  # other cuts or other options
                shutil.rmtree(destination, ignore_errors=True)
                (destination / SHARDS).mkdir(parents=True)
                plan_file.write_text(plan)
            ranges = [np.stack([cuts.line_ends[rows], cuts.line_ends[rows + 1]], axis=1) for rows in shards]
            write = partial(_write_shard, lines=lines, folder=destination / SHARDS, source=source)
            done = 0
            progress(done, len(shards), "exporting shards")
            for _ in map_in_processes(write, range(len(shards)), ranges, jobs=jobs):
                done += 1
                progress(done, len(shards), "exporting shards")
            speaker_samples = np.bincount(cuts.speaker, cuts.samples).astype(int).tolist()
            index = {
                "sample_rate": cuts.sample_rate,
                "shards": len(shards),
                "speakers": {cuts.speakers[i]: speaker_samples[i] for i in np.argsort(cuts.speakers)},
            }
            with replacing(destination / INDEX) as file:
                file.write(json.dumps(index).encode())
    return len(shards)


@dataclass(frozen=True)
class _Lines:
    """The cuts of a manifest as columns, (cuts,): speaker numbers and samples; `line_ends`, (cuts + 1,), in bytes."""

    speakers: list[str]
    speaker: np.ndarray
    samples: np.ndarray
    line_ends: np.ndarray
    sample_rate: int
    digest: bytes


def _read_manifest(manifest: Path, lines: Path) -> _Lines:
    """Read a manifest, and copy its lines uncompressed to the file `lines`, where a range of bytes gives a cut."""
    numbers: dict[str, int] = {}
    speaker, samples, line_ends, rates = array("i"), array("q"), array("q", [0]), set()
    digest = hashlib.sha256()
    with disk_errors(lines), open(lines, "wb") as copy:
        for line, cut in read_manifest(manifest):
            copy.write(line)
            digest.update(line)
            line_ends.append(line_ends[-1] + len(line))
            samples.append(cut.samples)
            rates.add(cut.sample_rate)
            speaker.append(numbers.setdefault(cut.speaker, len(numbers)))
    if len(rates) != 1:
        raise VcvaeError(f"{manifest}: lists no utterances, or of several sample rates; prepare again.")
    return _Lines(
        list(numbers), np.asarray(speaker), np.asarray(samples), np.asarray(line_ends), rates.pop(), digest.digest()
    )


def _assign(speaker: np.ndarray, seconds: np.ndarray, shard_seconds: float, seed: int) -> list[np.ndarray]:
    """Speakers and lengths of utterances, (rows,) each → the rows of each shard.

    The utterances of a speaker form groups of about a minute; shuffled, these fill shards of equal length.
    """
    order = np.argsort(speaker, kind="stable")
    speaker, seconds = speaker[order], seconds[order]
    total = np.bincount(speaker, seconds)
    start = np.cumsum(seconds) - seconds
    start -= np.concatenate([[0], np.cumsum(total)[:-1]])[speaker]  # within the speaker's utterances
    count = np.maximum(1, np.round(total / GROUP_SECONDS))
    group = np.floor(start / total[speaker] * count[speaker] + 1e-9).astype(np.int64)
    first = np.flatnonzero(np.diff(speaker * (count.max() + 1) + group, prepend=-1))
    groups = np.split(order, first[1:])
    length = np.add.reduceat(seconds, first)
    shards = max(1, round(length.sum() / shard_seconds))
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    group_start = np.cumsum(length[shuffled]) - length[shuffled]
    number = np.floor(group_start / length.sum() * shards).astype(np.int64)
    firsts = np.flatnonzero(np.diff(number, prepend=-1))
    return [np.concatenate([groups[i] for i in part]) for part in np.split(shuffled, firsts[1:])]


def _write_shard(number: int, ranges: np.ndarray, *, lines: Path, folder: Path, source: Path) -> None:
    """Write one shard, of the cuts at the byte `ranges` (cuts, 2) of the file `lines`."""
    names = [f"recording.{number:06d}.tar", f"cuts.{number:06d}.jsonl.gz"]  # the second marks the shard as complete
    if (folder / names[-1]).exists():
        return
    with open(lines, "rb") as file, temporary_folder(folder.parent) as unfinished:
        cuts = CutSet.from_dicts(json.loads(os.pread(file.fileno(), last - first, first)) for first, last in ranges)
        with SharWriter(unfinished, {"recording": "flac"}, shard_size=None, shard_suffix=f".{number:06d}") as writer:
            for cut in cuts.with_recording_path_prefix(source):
                try:
                    writer.write(cut)
                except AudioLoadingError:
                    path = cut.recording.sources[0].source
                    message = f"{path}: missing or damaged, although the manifest lists it; prepare again."
                    raise VcvaeError(message) from None
        for name in names:
            os.replace(unfinished / name, folder / name)
