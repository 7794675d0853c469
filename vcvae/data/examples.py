"""Training examples: short segments by one speaker, cut from prepared audio.

Which segments make example n is a function of the seed and n alone. So nothing about the order needs saving: a run goes
on at the example where it stopped, on any number of processes and workers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import soxr
from torch.utils.data import Dataset

Read = Callable[[int, int, int], np.ndarray]


class Examples(Dataset):
    """Endless: example n is some segments of one speaker, from as many utterances as there are.

    An example is a dict of `samples` (count, segment) float32, `bandwidth` (count,) in Hz and `speaker`, a number.
    Where speech is parallel, also what another speaker says at the same time, `parallel` (count, segment), and whether
    there is another, `is_parallel` (count,): else it is the same once more.

    Speakers with much speech are called more often than others, as the root of its length.

    Played faster or slower, a voice is another voice: its f0 and its tract are scaled. Each of `speeds` makes a
    speaker more of each speaker, as is usual where speakers are recognised (Yamamoto et al. 2019, Interspeech).

    speakers: the names of those that the numbers mean.
    samples: of all the utterances together.
    """

    speakers: list[str]
    samples: int

    def __init__(
        self, *, segment: int, count: int = 2, sample_rate: int, speeds: Sequence[float] = (1.0,), seed: int = 0
    ) -> None:
        """`segment` in samples."""
        self.segment, self.count, self.seed, self.sample_rate = segment, count, seed, sample_rate
        # Ratios of small numbers, which are quick to resample by.
        self.speeds = [Fraction(speed).limit_denominator(20) for speed in speeds]

    @abstractmethod
    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        """Example n."""

    @property
    def voices(self) -> int:
        """How many speakers the examples number: each at each speed."""
        return len(self.speakers) * len(self.speeds)

    @property
    def min_utterance_samples(self) -> int:
        """Samples of a recording that are a segment at the highest speed; an utterance that is shorter is of no use."""
        return self._played(max(self.speeds))

    @property
    def not_enough_message(self) -> str:
        return (
            f"no speaker has {self.count} segments of {self.segment / self.sample_rate:.2f} s; lower segment_frames or "
            "add longer recordings."
        )

    def enough(self, speaker: np.ndarray, samples: np.ndarray, speakers: int) -> np.ndarray:
        """Rows of utterances by speaker, and their samples → which rows are of use, (rows,) of bool."""
        room = samples // self.min_utterance_samples
        return (room > 0) & (np.bincount(speaker, room, speakers) >= self.count)[speaker]

    def example(
        self,
        n: int,
        speaker: int,
        samples: np.ndarray,
        bandwidth: np.ndarray,
        read: Read,
        others: Callable[[int], Sequence[Read]] | None = None,
    ) -> dict[str, np.ndarray]:
        """Example n, of a speaker whose utterances have `samples` (utterances,) and `bandwidth` (utterances,).

        `read` gives the samples of one of them, by its number, from a start, so many. `others` gives, for one of them,
        what reads the same by other speakers.
        """
        rng = np.random.default_rng([self.seed, 1, n])
        which = int(rng.integers(len(self.speeds)))
        speed = self.speeds[which]
        cuts = self._draw(samples, self._played(speed), rng)
        heard = [speed * float(bandwidth[i]) for i, _ in cuts]
        parts = [self._play(read(i, start, self._played(speed)), speed) for i, start in cuts]
        example = {
            "samples": np.stack(parts),
            "bandwidth": np.array([min(hertz, self.sample_rate / 2) for hertz in heard], dtype=np.float32),
            "speaker": np.int64(speaker * len(self.speeds) + which),
        }
        if others is None:
            return example
        twins = [others(i) for i, _ in cuts]
        for k, (i, start) in enumerate(cuts):
            if twins[k]:
                other = twins[k][rng.integers(len(twins[k]))]
                parts[k] = self._play(other(i, start, self._played(speed)), speed)
        return example | {"parallel": np.stack(parts), "is_parallel": np.array([bool(twin) for twin in twins])}

    def _played(self, speed: Fraction) -> int:
        """Samples of a recording that are a segment when they are played at `speed`."""
        return math.ceil(self.segment * speed)

    def _draw(self, length: np.ndarray, segment: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """(utterance, start) of `segment` samples each, none overlapping, from as many utterances as can be."""
        cuts = np.zeros(len(length), int)
        for _ in range(self.count):
            room = (cuts + 1) * segment <= length
            chance = length * (room & (cuts == cuts[room].min()))
            cuts[rng.choice(len(length), p=chance / chance.sum())] += 1
        drawn = []
        for i in np.flatnonzero(cuts):
            gaps = np.sort(rng.integers(length[i] - cuts[i] * segment + 1, size=cuts[i]))
            drawn += [(int(i), int(gap) + k * segment) for k, gap in enumerate(gaps)]
        return [drawn[i] for i in rng.permutation(self.count)]

    def _play(self, samples: np.ndarray, speed: Fraction) -> np.ndarray:
        if speed == 1:
            return samples
        # Not by torch: what it gives depends on the number of threads, and so would a resumed run.
        return soxr.resample(samples, speed.numerator, speed.denominator)[: self.segment]
