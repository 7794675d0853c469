"""Training examples: short segments by one speaker, cut from prepared audio.

Example n is a function of the seed and n only. So the order need not be saved: a run resumes at the next example, on
any number of processes and workers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import soxr
from torch.utils.data import Dataset

# (utterance, start, count) → samples (count,) of one of the speaker's utterances.
Read = Callable[[int, int, int], np.ndarray]


class Examples(Dataset):
    """An unlimited sequence: example n is `count` segments of one speaker, from different utterances where possible.

    An example is a dict of `samples` (count, segment) float32, `bandwidth` (count,) in Hz and `speaker`, a number. With
    parallel speech, also `parallel` (count, segment), the same words by another speaker at the same times, and
    `is_parallel` (count,), whether there is such a speaker; where there is none, `parallel` repeats `samples`.

    Speakers are drawn in proportion to the square root of the length of their speech.

    Changing the playback speed changes F0 and formants, and so the voice: a speaker at each of `speeds` counts as
    another speaker, as in speaker recognition (Yamamoto et al. 2019, Interspeech).

    Attributes:
        speakers: names.
        samples: of all utterances together.
    """

    speakers: list[str]
    samples: int

    def __init__(
        self, *, segment: int, count: int = 2, sample_rate: int, speeds: Sequence[float] = (1.0,), seed: int = 0
    ) -> None:
        """Args: `segment`, samples; `count`, segments of an example; `sample_rate`, Hz; `speeds`, of playback."""
        self.segment, self.count, self.seed, self.sample_rate = segment, count, seed, sample_rate
        # Ratios of small integers, by which resampling is fast.
        self.speeds = [Fraction(speed).limit_denominator(20) for speed in speeds]

    @abstractmethod
    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        """Example n."""

    @property
    def voices(self) -> int:
        """Number of speakers, each at each speed."""
        return len(self.speakers) * len(self.speeds)

    @property
    def min_utterance_samples(self) -> int:
        """Samples that make a segment at the highest speed; shorter utterances are not used."""
        return self._samples_at(max(self.speeds))

    @property
    def not_enough_message(self) -> str:
        """The error for data without a speaker who has enough speech."""
        return (
            f"no speaker has {self.count} segments of {self.segment / self.sample_rate:.2f} s; lower segment_frames or "
            "add longer recordings."
        )

    def usable_rows(self, speaker: np.ndarray, samples: np.ndarray, speakers: int) -> np.ndarray:
        """Speaker numbers (rows,) and samples (rows,) of utterances → which can be used, (rows,) of bool."""
        segments = samples // self.min_utterance_samples
        return (segments > 0) & (np.bincount(speaker, segments, speakers) >= self.count)[speaker]

    def example(
        self,
        n: int,
        speaker: int,
        samples: np.ndarray,
        bandwidth: np.ndarray,
        read: Read,
        parallel_reads: Callable[[int], Sequence[Read]] | None = None,
    ) -> dict[str, np.ndarray]:
        """Example n, of a speaker whose utterances have `samples` (utterances,) and `bandwidth` (utterances,).

        `read` reads one of these utterances; `parallel_reads` gives, for one of them, functions that read the same
        words by other speakers.
        """
        rng = np.random.default_rng([self.seed, 1, n])
        speed_number = int(rng.integers(len(self.speeds)))
        speed = self.speeds[speed_number]
        cuts = self._draw(samples, self._samples_at(speed), rng)
        bandwidths = [speed * float(bandwidth[i]) for i, _ in cuts]
        segments = [self._play(read(i, start, self._samples_at(speed)), speed) for i, start in cuts]
        example = {
            "samples": np.stack(segments),
            "bandwidth": np.array([min(hertz, self.sample_rate / 2) for hertz in bandwidths], dtype=np.float32),
            "speaker": np.int64(speaker * len(self.speeds) + speed_number),
        }
        if parallel_reads is None:
            return example
        choices = [parallel_reads(i) for i, _ in cuts]
        parallel = list(segments)
        for k, (i, start) in enumerate(cuts):
            if choices[k]:
                read_parallel = choices[k][rng.integers(len(choices[k]))]
                parallel[k] = self._play(read_parallel(i, start, self._samples_at(speed)), speed)
        return example | {"parallel": np.stack(parallel), "is_parallel": np.array([bool(reads) for reads in choices])}

    def _samples_at(self, speed: Fraction) -> int:
        """Samples of a recording that make a segment when played at `speed`."""
        return math.ceil(self.segment * speed)

    def _draw(self, length: np.ndarray, segment: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """(utterance, start) of `count` segments, which do not overlap, from as many utterances as possible."""
        cuts = np.zeros(len(length), int)
        for _ in range(self.count):
            has_room = (cuts + 1) * segment <= length
            weight = length * (has_room & (cuts == cuts[has_room].min()))
            cuts[rng.choice(len(length), p=weight / weight.sum())] += 1
        drawn = []
        for i in np.flatnonzero(cuts):
            gaps = np.sort(rng.integers(length[i] - cuts[i] * segment + 1, size=cuts[i]))
            drawn += [(int(i), int(gap) + k * segment) for k, gap in enumerate(gaps)]
        return [drawn[i] for i in rng.permutation(self.count)]

    def _play(self, samples: np.ndarray, speed: Fraction) -> np.ndarray:
        if speed == 1:
            return samples
        # torch's result would depend on the number of threads, and a resumed run would differ.
        return soxr.resample(samples, speed.numerator, speed.denominator)[: self.segment]
