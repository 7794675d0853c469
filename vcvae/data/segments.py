"""Examples from a manifest and the audio files that it names."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf

from vcvae.data.examples import Examples, Read
from vcvae.data.manifest import Manifest
from vcvae.errors import VcvaeError


class Segments(Examples):
    """A pass over the data calls each speaker in a fresh order, those with much speech several times.

    rows: for each speaker, those of `manifest` that are long enough.
    calls: the speakers of a pass, before they are shuffled.
    """

    def __init__(self, folder: str | Path, *, sample_rate: int, parallel: str | None = None, **options) -> None:
        """`options` are those of `Examples`.

        Speakers whose names begin with `parallel`, where it is given, say the same at the same time in recordings
        of the same name and length, as voices of one synthesiser can.

        Raises:
            VcvaeError: `folder` is not prepared, or for another rate, or no speaker in it has `count` segments, or none
                says what another does.
        """
        super().__init__(sample_rate=sample_rate, **options)
        self.manifest = manifest = Manifest(folder, sample_rate)
        rows = np.flatnonzero(self.enough(manifest.speaker, manifest.samples, len(manifest.speakers)))
        if not len(rows):
            raise VcvaeError(f"{folder}: {self.not_enough_message}")
        usable, first = np.unique(manifest.speaker[rows], return_index=True)
        self.speakers = [manifest.speakers[i] for i in usable]
        self.rows = np.split(rows.astype(np.int32), first[1:])
        total = np.add.reduceat(manifest.samples[rows], first, dtype=np.int64)
        self.samples = int(total.sum())
        calls = np.maximum(1, np.round(np.sqrt(total / np.median(total)))).astype(int)
        self.calls = np.repeat(np.arange(len(calls)), calls)
        self._epoch, self._order = -1, self.calls
        self.twins = _parallel(manifest, rows, parallel) if parallel else None
        if self.twins is not None and not self.twins:
            raise VcvaeError(
                f"data.parallel: no two speakers in {folder} whose names begin with '{parallel}' have recordings of "
                "one name and length; prepare them with --parallel."
            )

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        epoch, place = divmod(n, len(self.calls))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(self.calls)
        speaker = int(self._order[place])
        rows, manifest = self.rows[speaker], self.manifest

        def read(i: int, start: int, frames: int) -> np.ndarray:
            return _read(manifest.path(rows[i]), start, frames)

        def others(i: int) -> list[Read]:
            return [partial(_read_other, manifest.path(row)) for row in self.twins.get(int(rows[i]), ())]

        return self.example(
            n,
            speaker,
            manifest.samples[rows],
            manifest.bandwidth[rows],
            read,
            None if self.twins is None else others,
        )


def _parallel(manifest: Manifest, rows: np.ndarray, prefix: str) -> dict[int, list[int]]:
    """For each row of parallel speech, the rows in which other speakers say the same."""
    same: dict[tuple[str, int], list[int]] = {}
    for row in map(int, rows):
        if manifest.speakers[manifest.speaker[row]].startswith(prefix):
            same.setdefault((manifest.path(row).name, int(manifest.samples[row])), []).append(row)
    return {row: [other for other in group if other != row] for group in same.values() for row in group if group[1:]}


def _read_other(path: Path, _: int, start: int, frames: int) -> np.ndarray:
    return _read(path, start, frames)


def _read(path: Path, start: int, frames: int) -> np.ndarray:
    """Samples (frames,) from `start` on.

    Raises:
        VcvaeError: a file that cannot be read, or ends before its manifest says.
    """
    try:
        samples = sf.read(path, frames=frames, start=start, dtype="float32")[0]
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise VcvaeError(f"{path}: cannot be read ({reason}).") from None
    if samples.shape != (frames,) or not np.isfinite(samples).all():
        raise VcvaeError(f"{path}: is not the audio that its manifest describes; prepare it again.")
    return samples
