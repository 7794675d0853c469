"""The manifest of a prepared folder as columns, which need little memory."""

from __future__ import annotations

import logging
import math
from array import array
from pathlib import Path

import numpy as np

from vcvae.data.cuts import MANIFEST, read_manifest
from vcvae.errors import VcvaeError

_log = logging.getLogger("vcvae")


class Manifest:
    """One row per utterance, sorted by the speaker's name.

    A row takes about 70 bytes with its path, a cut as an object 2 kB. Worker processes share the memory of arrays; that
    of a list of objects is copied page by page, as reference counts change.

    Attributes:
        speakers: names.
        speaker: (rows,), indices of `speakers`.
        samples: (rows,), length.
        bandwidth: (rows,), Hz.
        parallel_group: (rows,), number of the parallel group, or -1. Utterances of one name by different speakers of a
            group have the same words at the same times (`vcvae prepare --parallel`).
    """

    def __init__(self, folder: str | Path, sample_rate: int) -> None:
        """Read the manifest in `folder`.

        Raises:
            VcvaeError: no manifest in `folder`, one for another sample rate, or something else in its place.
        """
        self.folder, path = Path(folder), Path(folder) / MANIFEST
        if not path.is_file():
            raise VcvaeError(f"{folder}: not prepared audio (no {MANIFEST}); {_advice(self.folder)}.")
        numbers, groups, rates = {}, {}, set()
        speaker, samples, bandwidth, group = array("i"), array("i"), array("f"), array("i")
        paths, ends = bytearray(), array("q")
        for _, cut in read_manifest(path):
            speaker.append(numbers.setdefault(cut.speaker, len(numbers)))
            samples.append(cut.samples)
            bandwidth.append(cut.bandwidth)
            name = cut.parallel_group
            group.append(-1 if name is None else groups.setdefault(name, len(groups)))
            paths += cut.source.encode()
            ends.append(len(paths))
            rates.add(cut.sample_rate)
        for rate in rates - {sample_rate}:
            raise VcvaeError(f"{folder}: prepared at {rate} Hz, the model needs {sample_rate}; prepare again.")
        self.speakers = sorted(numbers)
        rank = np.empty(len(numbers), np.int32)
        rank[[numbers[name] for name in self.speakers]] = np.arange(len(numbers))
        column = rank[np.asarray(speaker)] if numbers else np.empty(0, np.int32)
        self._order = np.argsort(column, kind="stable").astype(np.int32)
        self.speaker = column[self._order]
        self.samples = np.asarray(samples)[self._order]
        self.bandwidth = np.asarray(bandwidth)[self._order]
        self.parallel_group = np.asarray(group)[self._order]
        self.sample_rate = sample_rate
        self._paths, self._ends = bytes(paths), np.asarray(ends)

    def utterances(self, *, max_seconds: float = math.inf) -> list[tuple[Path, str]]:
        """The path of each utterance's audio, with the speaker's name; longer ones are left out, with a warning."""
        rows = np.flatnonzero(self.samples <= max_seconds * self.sample_rate)
        if left_out := len(self.samples) - len(rows):
            _log.warning(
                f"{self.folder}: {left_out} utterances longer than {max_seconds / 60:.3g} minutes are left out."
            )
        return [(self.path(row), self.speakers[self.speaker[row]]) for row in rows]

    def transcripts(self) -> dict[Path, str]:
        """The words of each utterance by the path of its audio, where they are known; read anew."""
        cuts = (cut for _, cut in read_manifest(self.folder / MANIFEST))
        return {self.folder / cut.source: cut.transcript for cut in cuts if cut.transcript}

    def path(self, row: int) -> Path:
        """The path of an utterance's audio."""
        line = self._order[row]
        start = self._ends[line - 1] if line else 0
        return self.folder / self._paths[start : self._ends[line]].decode()


def _advice(folder: Path) -> str:
    if (folder / "train" / MANIFEST).is_file():
        return f"it holds splits, so give {folder / 'train'}"
    if folder.name in ("dev", "test"):
        return f"make it with 'vcvae prepare CORPUS SOURCE {folder.parent} --{folder.name} NUMBER'"
    return f"make it with 'vcvae prepare CORPUS SOURCE {folder.parent if folder.name == 'train' else folder}'"
