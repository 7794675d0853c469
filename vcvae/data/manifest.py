"""The manifest of a prepared folder as columns: what training needs of it, in little memory."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
from lhotse.serialization import load_jsonl

from vcvae.data.prepare import MANIFEST
from vcvae.errors import VcvaeError


class Manifest:
    """One row an utterance, those of a speaker one after another, speakers in the order of their names.

    An utterance costs some 70 bytes with its path, where a cut as an object costs 2 kB. Processes that read audio share
    the arrays, which a list of objects does not allow: counting references copies its pages.

    speakers: names.
    speaker: (rows,), numbers of these.
    samples: (rows,).
    bandwidth: (rows,), Hz.
    """

    def __init__(self, folder: str | Path, sample_rate: int) -> None:
        """Read it once, line by line.

        Raises:
            VcvaeError: no manifest in `folder`, or one for another sample rate.
        """
        self.folder, path = Path(folder), Path(folder) / MANIFEST
        if not path.is_file():
            raise VcvaeError(f"{folder}: not prepared audio (no {MANIFEST}); {_advice(self.folder)}.")
        numbers, rates = {}, set()
        speaker, samples, bandwidth, ends, paths = array("i"), array("i"), array("f"), array("q"), bytearray()
        try:
            for cut in load_jsonl(path):
                recording = cut["recording"]
                speaker.append(numbers.setdefault(cut["supervisions"][0]["speaker"], len(numbers)))
                samples.append(recording["num_samples"])
                bandwidth.append(cut["custom"]["bandwidth"])
                paths += recording["sources"][0]["source"].encode()
                ends.append(len(paths))
                rates.add(recording["sampling_rate"])
        except Exception:  # gzip, JSON and its fields each have their own
            raise VcvaeError(f"{path}: not a manifest of 'vcvae prepare'; prepare again.") from None
        for rate in rates - {sample_rate}:
            raise VcvaeError(f"{folder}: prepared at {rate} Hz, the model wants {sample_rate}; prepare again.")
        self.speakers = sorted(numbers)
        rank = np.empty(len(numbers), np.int32)
        rank[[numbers[name] for name in self.speakers]] = np.arange(len(numbers))
        column = rank[np.asarray(speaker)] if numbers else np.empty(0, np.int32)
        self._order = np.argsort(column, kind="stable").astype(np.int32)
        self.speaker = column[self._order]
        self.samples, self.bandwidth = (np.asarray(a)[self._order] for a in (samples, bandwidth))
        self._paths, self._ends = bytes(paths), np.asarray(ends)

    def utterances(self) -> list[tuple[Path, str]]:
        """All audio, each with its speaker's name."""
        return [(self.path(row), self.speakers[number]) for row, number in enumerate(self.speaker)]

    def path(self, row: int) -> Path:
        """Of an utterance's audio."""
        place = self._order[row]
        start = self._ends[place - 1] if place else 0
        return self.folder / self._paths[start : self._ends[place]].decode()


def _advice(folder: Path) -> str:
    if (folder / "train" / MANIFEST).is_file():
        return f"it holds splits, so give {folder / 'train'}"
    if folder.name in ("dev", "test"):
        return f"make it with 'vcvae prepare CORPUS SOURCE {folder.parent} --{folder.name} NUMBER'"
    return f"make it with 'vcvae prepare CORPUS SOURCE {folder.parent if folder.name == 'train' else folder}'"
