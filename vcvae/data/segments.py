"""Training examples: short segments by one speaker, cut from prepared audio.

Which segments make example n is a function of the seed and n alone. So nothing about the order needs saving: a run goes
on at the example where it stopped, on any number of workers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf
import soxr
from lhotse import CutSet
from torch.utils.data import Dataset

from vcvae.data.prepare import MANIFEST
from vcvae.errors import VcvaeError


class Utterance(NamedTuple):
    path: Path
    samples: int
    bandwidth: float  # Hz


class Segments(Dataset):
    """Endless: example n is some segments of one speaker, from as many utterances as there are.

    An example is a dict of `samples` (count, segment) float32, `bandwidth` (count,) in Hz and `speaker`, a number. A
    pass over the data calls each speaker in a fresh order, those with much speech more often (as the root of its
    length).

    Played faster or slower, a voice is another voice: its pitch and its tract are scaled. Each of `speeds` makes a
    speaker more of each speaker, as is usual where speakers are recognised (Yamamoto et al. 2019, Interspeech).
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        segment: int,
        count: int = 2,
        sample_rate: int,
        speeds: Sequence[float] = (1.0,),
        seed: int = 0,
    ) -> None:
        """`segment` in samples.

        Raises:
            VcvaeError: `folder` is not prepared, or for another rate, or no speaker in it has `count` segments.
        """
        self.segment, self.count, self.seed, self.sample_rate = segment, count, seed, sample_rate
        # Ratios of small numbers, which are quick to resample by.
        self.speeds = [Fraction(speed).limit_denominator(20) for speed in speeds]
        longest = self._played(max(self.speeds))
        speakers = defaultdict(list)
        for utterance, speaker in utterances(folder, sample_rate):
            if utterance.samples >= longest:
                speakers[speaker].append(utterance)
        usable = {
            name: list_ for name, list_ in sorted(speakers.items()) if sum(u.samples // longest for u in list_) >= count
        }
        if not usable:
            raise VcvaeError(
                f"{folder}: no speaker has {count} segments of {segment / sample_rate:.2f} s; "
                "lower segment_frames or add longer recordings."
            )
        self.speakers = list(usable)
        self.utterances = list(usable.values())
        total = np.array([sum(u.samples for u in list_) for list_ in self.utterances])
        calls = np.maximum(1, np.round(np.sqrt(total / np.median(total)))).astype(int)
        self.calls = np.repeat(np.arange(len(calls)), calls)

    @property
    def voices(self) -> int:
        """How many speakers the examples number: each at each speed."""
        return len(self.speakers) * len(self.speeds)

    @property
    def samples(self) -> int:
        """Of all the utterances together."""
        return sum(u.samples for list_ in self.utterances for u in list_)

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        epoch, place = divmod(n, len(self.calls))
        speaker = np.random.default_rng([self.seed, 0, epoch]).permutation(self.calls)[place]
        rng = np.random.default_rng([self.seed, 1, n])
        which = int(rng.integers(len(self.speeds)))
        speed = self.speeds[which]
        cuts = self._draw(self.utterances[speaker], self._played(speed), rng)
        return {
            "samples": np.stack([self._read(*cut, speed) for cut in cuts]),
            "bandwidth": np.array([min(speed * u.bandwidth, self.sample_rate / 2) for u, _ in cuts], dtype=np.float32),
            "speaker": np.int64(speaker * len(self.speeds) + which),
        }

    def _played(self, speed: Fraction) -> int:
        """Samples of a recording that are a segment when they are played at `speed`."""
        return math.ceil(self.segment * speed)

    def _draw(self, choices: list[Utterance], segment: int, rng: np.random.Generator) -> list[tuple[Utterance, int]]:
        """(utterance, start) of `segment` samples each, none overlapping, from as many utterances as can be."""
        length = np.array([u.samples for u in choices])
        cuts = np.zeros(len(choices), int)
        for _ in range(self.count):
            room = (cuts + 1) * segment <= length
            chance = length * (room & (cuts == cuts[room].min()))
            cuts[rng.choice(len(choices), p=chance / chance.sum())] += 1
        drawn = []
        for i in np.flatnonzero(cuts):
            gaps = np.sort(rng.integers(length[i] - cuts[i] * segment + 1, size=cuts[i]))
            drawn += [(choices[i], int(gap) + k * segment) for k, gap in enumerate(gaps)]
        return [drawn[i] for i in rng.permutation(self.count)]

    def _read(self, utterance: Utterance, start: int, speed: Fraction) -> np.ndarray:
        samples = sf.read(utterance.path, frames=self._played(speed), start=start, dtype="float32")[0]
        if speed == 1:
            return samples
        # Not by torch: what it gives depends on the number of threads, and so would a resumed run.
        return soxr.resample(samples, speed.numerator, speed.denominator)[: self.segment]


def utterances(folder: str | Path, sample_rate: int) -> list[tuple[Utterance, str]]:
    """The utterances of a prepared folder, each with its speaker.

    Raises:
        VcvaeError: no manifest in `folder`, or one for another sample rate.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise VcvaeError(f"{folder}: not prepared audio (no {MANIFEST}); make it with 'vcvae prepare SOURCE {folder}'.")
    try:
        cuts = list(CutSet.from_jsonl_lazy(folder / MANIFEST))
        found = [
            (
                Utterance(folder / c.recording.sources[0].source, c.recording.num_samples, c.custom["bandwidth"]),
                c.supervisions[0].speaker,
            )
            for c in cuts
        ]
    except Exception:  # gzip, JSON and lhotse each have their own
        raise VcvaeError(f"{folder / MANIFEST}: not a manifest of 'vcvae prepare'; prepare again.") from None
    for cut in cuts:
        if cut.sampling_rate != sample_rate:
            rates = f"prepared at {cut.sampling_rate} Hz, the model wants {sample_rate}"
            raise VcvaeError(f"{folder}: {rates}; prepare again.")
    return found
