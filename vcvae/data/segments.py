"""Training examples from a manifest and the audio files that it lists."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf

from vcvae.data.examples import Examples, Read
from vcvae.data.manifest import Manifest
from vcvae.errors import VcvaeError, reason


class Segments(Examples):
    """Examples of a prepared folder. An epoch has each speaker in random order, those with much speech several times.

    Attributes:
        rows: for each speaker, the rows of `manifest` that are long enough.
        epoch_speakers: the speakers of an epoch, before shuffling.
        parallel_rows: for each row of parallel speech, the rows of other speakers of its group with the same words at
            the same times: those with the same file name and length. None without `parallel`, or where there are none.
    """

    def __init__(self, folder: str | Path, *, sample_rate: int, parallel: bool = False, **options) -> None:
        """Read the manifest of `folder`.

        Args:
            parallel: whether examples include parallel speech, where the manifest lists parallel groups.
            options: those of `Examples`.

        Raises:
            VcvaeError: `folder` is not prepared, or for another sample rate, or no speaker in it has `count` segments.
        """
        super().__init__(sample_rate=sample_rate, **options)
        self.manifest = manifest = Manifest(folder, sample_rate)
        rows = np.flatnonzero(self.usable_rows(manifest.speaker, manifest.samples, len(manifest.speakers)))
        if not len(rows):
            raise VcvaeError(f"{folder}: {self.not_enough_message}")
        usable, first = np.unique(manifest.speaker[rows], return_index=True)
        self.speakers = [manifest.speakers[i] for i in usable]
        self.rows = np.split(rows.astype(np.int32), first[1:])
        total = np.add.reduceat(manifest.samples[rows], first, dtype=np.int64)
        self.samples = int(total.sum())
        repetitions = np.maximum(1, np.round(np.sqrt(total / np.median(total)))).astype(int)
        self.epoch_speakers = np.repeat(np.arange(len(repetitions)), repetitions)
        self._epoch, self._epoch_order = -1, self.epoch_speakers
        self.parallel_rows = (_find_parallel_rows(manifest, rows) or None) if parallel else None

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        epoch, position = divmod(n, len(self.epoch_speakers))
        if epoch != self._epoch:
            self._epoch = epoch
            self._epoch_order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.epoch_speakers)
        speaker = int(self._epoch_order[position])
        rows, manifest = self.rows[speaker], self.manifest

        def read(i: int, start: int, frames: int) -> np.ndarray:
            return _read(manifest.path(rows[i]), start, frames)

        def parallel_reads(i: int) -> list[Read]:
            return [partial(_read_parallel, manifest.path(row)) for row in self.parallel_rows.get(int(rows[i]), ())]

        return self.example(
            n,
            speaker,
            manifest.samples[rows],
            manifest.bandwidth[rows],
            read,
            None if self.parallel_rows is None else parallel_reads,
        )


def _find_parallel_rows(manifest: Manifest, rows: np.ndarray) -> dict[int, list[int]]:
    """For each row of parallel speech, the rows of other speakers with the same words at the same times."""
    parallel: dict[tuple[int, str, int], list[int]] = {}
    for row in map(int, rows[manifest.parallel_group[rows] >= 0]):
        key = int(manifest.parallel_group[row]), manifest.path(row).name, int(manifest.samples[row])
        parallel.setdefault(key, []).append(row)
    return {row: [other for other in same if other != row] for same in parallel.values() for row in same if same[1:]}


def _read_parallel(path: Path, _: int, start: int, frames: int) -> np.ndarray:
    return _read(path, start, frames)


def _read(path: Path, start: int, frames: int) -> np.ndarray:
    """Read `frames` samples from `start` on.

    Raises:
        VcvaeError: the file cannot be read, or is shorter than its manifest says.
    """
    try:
        samples = sf.read(path, frames=frames, start=start, dtype="float32")[0]
    except (OSError, RuntimeError, ValueError) as error:
        raise VcvaeError(f"{path}: cannot be read ({reason(error)}).") from None
    if samples.shape != (frames,) or not np.isfinite(samples).all():
        raise VcvaeError(f"{path}: is not the audio that its manifest describes; prepare it again.")
    return samples
