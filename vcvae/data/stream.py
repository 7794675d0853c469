"""Examples from shards that lie here or in any store, in memory that does not depend on how many there are.

Here too example n is a function of the seed and n alone, so that a run goes on where it was on any number of processes.
Yet a reader must not jump between shards: batches are dealt to *lanes*, each of which goes through one shard after
another, and all lanes together through all shards before any comes again. A reader is one worker of one process, and
takes every so-manieth batch: where the number of readers divides that of the lanes, each shard is read by one of them.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile as sf
from lhotse.serialization import open_best

from vcvae.data.examples import Examples
from vcvae.data.shar import INDEX, SHARDS
from vcvae.errors import VcvaeError

N_READERS = (1, 2, 4, 8, 16, 32, 64)
TRIES, PAUSE = 4, 2.0  # of reading from a store, and seconds before the second, doubled each time


class Stream(Examples):
    """Each visit to a shard gives as many examples as the mean shard has speech for.

    In a visit a speaker is called in proportion to what the shard holds of the voice, divided by the root of what the
    corpus holds of it: over a pass, as the root of its length.

    shards: how many there are.
    lanes: how many are read in turn.
    visit: examples from one before the lane's next.
    """

    def __init__(self, place: str, *, batch: int, sample_rate: int, **options) -> None:
        """`place` is a folder or its URL; `batch` examples are read by one reader. `options` are those of `Examples`.

        Raises:
            VcvaeError: no index there, or one for another rate, or the first shard has not speech enough.
        """
        super().__init__(sample_rate=sample_rate, **options)
        self.place, self.batch = str(place).rstrip("/"), batch
        rate, self.shards, said = _read(f"{self.place}/{INDEX}", _index)
        if rate != sample_rate:
            raise VcvaeError(f"{place}: prepared at {rate} Hz, the model wants {sample_rate}; prepare again.")
        self.speakers, samples = list(said), np.array(list(said.values()))
        self.numbers = {name: number for number, name in enumerate(said)}
        self.samples, self.weight = int(samples.sum()), 1 / np.sqrt(samples)
        self.lanes = max(lanes for lanes in N_READERS if lanes <= self.shards)
        self.visit = max(1, round(self.samples / self.shards / (self.count * self.segment)))
        self._visits: dict[int, tuple[int, _Shard, np.ndarray]] = {}
        self._usable(_Cuts.read(self.place, 0, self.numbers))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_visits": {}}  # open files stay in their process

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        lane, visit, within = self.where(n)
        if self._visits.get(lane, (None,))[0] != visit:
            self._visits.pop(lane, None)  # gives its room back before the next takes as much
            self._visits[lane] = visit, *self._begin(visit)
        _, shard, called = self._visits[lane]
        speaker, cuts = int(called[within]), shard.cuts
        rows = np.flatnonzero((cuts.speaker == speaker) & (cuts.samples >= self.min_utterance_samples))

        def read(i: int, start: int, frames: int) -> np.ndarray:
            return sf.read(io.BytesIO(shard.encoded(rows[i])), frames=frames, start=start, dtype="float32")[0]

        return self.example(n, speaker, cuts.samples[rows], cuts.bandwidth[rows], read)

    def where(self, n: int) -> tuple[int, int, int]:
        """The lane of example n, which of all visits it belongs to, and its place in that visit."""
        block, place = divmod(n, self.batch)
        turn, lane = divmod(block, self.lanes)
        begun = lane * self.visit // self.lanes  # lanes are apart, so as not to change shards all at once
        turns, within = divmod(turn * self.batch + place + begun, self.visit)
        return lane, turns * self.lanes + lane, within

    def shard(self, visit: int) -> int:
        """The shard of a visit: all of them, in an order drawn anew, before any comes again."""
        epoch, place = divmod(visit, self.shards)
        return int(np.random.default_rng([self.seed, 0, epoch]).permutation(self.shards)[place])

    def _begin(self, visit: int) -> tuple[_Shard, np.ndarray]:
        """The shard of a visit, and the speakers that are called in it, (self.visit,)."""
        shard = _Shard(self.place, self.shard(visit), self.numbers)
        cuts, usable = shard.cuts, self._usable(shard.cuts)
        heard = np.bincount(cuts.speaker[usable], cuts.samples[usable], len(self.speakers)) * self.weight
        present = np.flatnonzero(heard)
        share = np.cumsum(heard[present]) / heard.sum()
        # Systematic sampling: nobody is called more than once more or less than the share.
        rng = np.random.default_rng([self.seed, 2, visit])
        places = (rng.permutation(self.visit) + rng.random()) / self.visit
        return shard, present[np.minimum(np.searchsorted(share, places, side="right"), len(present) - 1)]

    def _usable(self, cuts: _Cuts) -> np.ndarray:
        usable = self.enough(cuts.speaker, cuts.samples, len(self.speakers))
        if not usable.any():
            raise VcvaeError(f"{self.place}: {self.not_enough_message}")
        return usable


class _Cuts(NamedTuple):
    """What a shard's manifest says of its utterances: numbers of speakers, samples and Hz, (utterances,) each."""

    names: list[str]
    speaker: np.ndarray
    samples: np.ndarray
    bandwidth: np.ndarray

    @classmethod
    def read(cls, place: str, number: int, speakers: dict[str, int]) -> _Cuts:
        def columns(file: BinaryIO) -> _Cuts:
            cuts = [json.loads(line) for line in file]
            return cls(
                [cut["id"] for cut in cuts],
                np.array([speakers[cut["supervisions"][0]["speaker"]] for cut in cuts]),
                np.array([cut["recording"]["num_samples"] for cut in cuts]),
                np.array([cut["custom"]["bandwidth"] for cut in cuts], np.float32),
            )

        return _read(f"{place}/{SHARDS}/cuts.{number:06d}.jsonl.gz", columns)


class _Shard:
    """A shard whose audio lies in a file of this machine: its own, or an unnamed copy while it is in use."""

    def __init__(self, place: str, number: int, speakers: dict[str, int]) -> None:
        self.remote = "://" in place
        self.cuts = _Cuts.read(place, number, speakers)
        self.file, self.places = _read(f"{place}/{SHARDS}/recording.{number:06d}.tar", self._keep)

    def encoded(self, row: int) -> bytes:
        """The FLAC of an utterance."""
        start, size = self.places[row]
        return os.pread(self.file.fileno(), size, start)  # wherever others who share the file stand

    def _keep(self, file: BinaryIO) -> tuple[BinaryIO, list[tuple[int, int]]]:
        if self.remote:
            kept = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this
            shutil.copyfileobj(file, kept, 2**20)
        else:
            kept = os.fdopen(os.dup(file.fileno()), "rb")
        kept.seek(0)
        with tarfile.open(fileobj=kept, mode="r:") as members:
            found = {m.name: (m.offset_data, m.size) for m in members}
        return kept, [found[f"{name}.flac"] for name in self.cuts.names]


def _index(file: BinaryIO) -> tuple[int, int, dict[str, int]]:
    """Sample rate, number of shards, and the samples of each speaker."""
    values = json.load(file)
    return values["sample_rate"], values["shards"], values["speakers"]


def _read(url: str, take: Callable[[BinaryIO], Any]) -> Any:
    """What `take` makes of an opened file; a store is asked several times."""
    if "://" in url and not find_spec("smart_open"):
        raise VcvaeError(f"{url}: to read it from there, install vcvae with its extra 'stream'.")
    for attempt in range(1, TRIES + 1):
        try:
            with open_best(url, "rb") as file:
                return take(file)
        except Exception as error:  # each store and each format has its own
            if "://" in url and attempt < TRIES:
                time.sleep(PAUSE * 2 ** (attempt - 1))
                continue
            error = error.__context__ or error
            reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
            raise VcvaeError(f"{url}: cannot be read ({reason}); run the same command once it can be.") from None
