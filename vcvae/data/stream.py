"""Training examples from shards on disk or in a remote store, in memory that does not grow with their number.

As in `Segments`, example n is a function of the seed and n only, so that a run resumes on any number of processes. But
a worker must not jump between shards. So batches are dealt in turn to *lanes*: each lane reads one shard after another,
and all lanes together read every shard once before any is read again. Of n workers (over all processes), each takes
every n-th batch: where n divides the number of lanes, each shard is read by one worker.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any, BinaryIO, NamedTuple

import numpy as np
import soundfile as sf
from lhotse.serialization import open_best
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vcvae.data.cuts import parse_cut, read_lines
from vcvae.data.examples import Examples
from vcvae.data.shar import INDEX, SHARDS
from vcvae.errors import VcvaeError

N_LANES = (1, 2, 4, 8, 16, 32, 64)
MAX_INDEX_BYTES = 2**27
READ_ATTEMPTS = 4  # of reading from a remote store
RETRY_PAUSE = 2.0  # seconds before the second attempt, doubled before each further one


class _Index(BaseModel):
    """What the index holds: speakers with the number of their samples."""

    model_config = ConfigDict(strict=True)

    sample_rate: int
    shards: int = Field(gt=0, le=2**24)
    speakers: dict[str, Annotated[int, Field(gt=0, le=2**50)]] = Field(min_length=1)


class ShardExamples(Examples):
    """Examples of shards. A turn is one reading of a shard; it gives as many examples as the mean shard has speech for.

    In a turn, a speaker is drawn in proportion to the length of the speaker's speech in the shard, over the square root
    of its length in the corpus: over an epoch, in proportion to the square root of its length.

    Attributes:
        shards: their number.
        lanes: number of shards that are read in turn.
        examples_per_shard: examples of a turn.
    """

    def __init__(self, place: str, *, batch: int, sample_rate: int, **options) -> None:
        """Read the index of the shards.

        Args:
            place: a folder or its URL.
            batch: consecutive examples that come from one lane.
            options: those of `Examples`.

        Raises:
            VcvaeError: no index there, or one for another sample rate, or the first shard has too little speech.
        """
        super().__init__(sample_rate=sample_rate, **options)
        self.place, self.batch = str(place).rstrip("/"), batch
        rate, self.shards, speaker_samples = _read(f"{self.place}/{INDEX}", _index)
        if rate != sample_rate:
            raise VcvaeError(f"{place}: prepared at {rate} Hz, the model needs {sample_rate}; prepare again.")
        self.speakers, samples = list(speaker_samples), np.array(list(speaker_samples.values()))
        self.numbers = {name: number for number, name in enumerate(self.speakers)}
        self.samples, self.weight = int(samples.sum()), 1 / np.sqrt(samples)
        self.lanes = max(lanes for lanes in N_LANES if lanes <= self.shards)
        self.examples_per_shard = max(1, round(self.samples / self.shards / (self.count * self.segment)))
        self._turns: dict[int, tuple[int, _Shard, np.ndarray]] = {}
        self._usable_cuts(_Cuts.read(self.place, 0, self.numbers))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_turns": {}}  # open files stay in their process

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        lane, turn, position = self.locate(n)
        if self._turns.get(lane, (None,))[0] != turn:
            self._turns.pop(lane, None)  # frees its memory before the next shard is read
            self._turns[lane] = turn, *self._start_turn(turn)
        _, shard, drawn_speakers = self._turns[lane]
        speaker, cuts = int(drawn_speakers[position]), shard.cuts
        rows = np.flatnonzero((cuts.speaker == speaker) & (cuts.samples >= self.min_utterance_samples))

        def read(i: int, start: int, frames: int) -> np.ndarray:
            return sf.read(io.BytesIO(shard.encoded(rows[i])), frames=frames, start=start, dtype="float32")[0]

        return self.example(n, speaker, cuts.samples[rows], cuts.bandwidth[rows], read)

    def locate(self, n: int) -> tuple[int, int, int]:
        """The lane of example n, the number of its turn (over all lanes), and its position in that turn."""
        batch, position = divmod(n, self.batch)
        round_number, lane = divmod(batch, self.lanes)
        # Lanes start at different positions, so that they do not all change shards at once.
        first = lane * self.examples_per_shard // self.lanes
        lane_turn, position = divmod(round_number * self.batch + position + first, self.examples_per_shard)
        return lane, lane_turn * self.lanes + lane, position

    def shard(self, turn: int) -> int:
        """The shard of a turn: each shard once, in random order, before any is read again."""
        epoch, position = divmod(turn, self.shards)
        return int(np.random.default_rng([self.seed, 0, epoch]).permutation(self.shards)[position])

    def _start_turn(self, turn: int) -> tuple[_Shard, np.ndarray]:
        """The shard of a turn, and the speakers of its examples, (examples_per_shard,)."""
        shard = _Shard(self.place, self.shard(turn), self.numbers)
        cuts, usable = shard.cuts, self._usable_cuts(shard.cuts)
        weight = np.bincount(cuts.speaker[usable], cuts.samples[usable], len(self.speakers)) * self.weight
        present = np.flatnonzero(weight)
        cumulative = np.cumsum(weight[present]) / weight.sum()
        # Systematic sampling: the count of each speaker differs from the expected one by less than 1.
        rng = np.random.default_rng([self.seed, 2, turn])
        points = (rng.permutation(self.examples_per_shard) + rng.random()) / self.examples_per_shard
        return shard, present[np.minimum(np.searchsorted(cumulative, points, side="right"), len(present) - 1)]

    def _usable_cuts(self, cuts: _Cuts) -> np.ndarray:
        usable = self.usable_rows(cuts.speaker, cuts.samples, len(self.speakers))
        if not usable.any():
            raise VcvaeError(f"{self.place}: {self.not_enough_message}")
        return usable


class _Cuts(NamedTuple):
    """The manifest of a shard as columns, (utterances,) each: speaker numbers, samples, and bandwidth in Hz."""

    names: list[str]
    speaker: np.ndarray
    samples: np.ndarray
    bandwidth: np.ndarray

    @classmethod
    def read(cls, place: str, number: int, speakers: dict[str, int]) -> _Cuts:
        def columns(file: BinaryIO) -> _Cuts:
            cuts = [parse_cut(line) for line in read_lines(file)]
            return cls(
                [cut.id for cut in cuts],
                np.array([speakers[cut.speaker] for cut in cuts], int),
                np.array([cut.samples for cut in cuts], int),
                np.array([cut.bandwidth for cut in cuts], np.float32),
            )

        return _read(f"{place}/{SHARDS}/cuts.{number:06d}.jsonl.gz", columns)


class _Shard:
    """A shard with its audio in a local file: the shard's own, or a temporary copy of a remote one."""

    def __init__(self, place: str, number: int, speakers: dict[str, int]) -> None:
        self.remote = "://" in place
        self.cuts = _Cuts.read(place, number, speakers)
        self.file, self.ranges = _read(f"{place}/{SHARDS}/recording.{number:06d}.tar", self._open)

    def encoded(self, row: int) -> bytes:
        """The FLAC of an utterance."""
        start, size = self.ranges[row]
        return os.pread(self.file.fileno(), size, start)  # independent of the position that forked workers share

    def _open(self, file: BinaryIO) -> tuple[BinaryIO, list[tuple[int, int]]]:
        if self.remote:
            local = tempfile.TemporaryFile()  # noqa: SIM115  closed with this object
            shutil.copyfileobj(file, local, 2**20)
        else:
            local = os.fdopen(os.dup(file.fileno()), "rb")
        local.seek(0)
        with tarfile.open(fileobj=local, mode="r:") as members:
            ranges = {m.name: (m.offset_data, m.size) for m in members}
        return local, [ranges[f"{name}.flac"] for name in self.cuts.names]


def _index(file: BinaryIO) -> tuple[int, int, dict[str, int]]:
    """Sample rate, number of shards, and the samples of each speaker, from the index.

    Raises:
        ValueError: it is no such index.
    """
    data, problem = file.read(MAX_INDEX_BYTES), None
    try:
        index = _Index.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if problem:  # raised here, without the other as its context, of which `_read` would tell
        raise ValueError(problem)
    return index.sample_rate, index.shards, index.speakers


def _read(url: str, parse: Callable[[BinaryIO], Any]) -> Any:
    """`parse` an open file; reading from a remote store is tried several times."""
    if "://" in url and not find_spec("smart_open"):
        raise VcvaeError(f"{url}: to read from a URL, install vcvae with its extra 'stream'.")
    for attempt in range(1, READ_ATTEMPTS + 1):
        try:
            with open_best(url, "rb") as file:
                return parse(file)
        except Exception as error:  # stores and formats raise different ones
            if "://" in url and attempt < READ_ATTEMPTS:
                time.sleep(RETRY_PAUSE * 2 ** (attempt - 1))
                continue
            error = error.__context__ or error
            reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
            raise VcvaeError(f"{url}: cannot be read ({reason}); run the same command once it can be.") from None
