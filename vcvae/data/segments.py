"""Training examples: pairs of short segments by one speaker, cut from prepared audio.

Which segments make example n is a function of the seed and n alone. So nothing about the order needs saving: a run goes
on at the example where it stopped, on any number of workers.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf
from lhotse import CutSet
from torch.utils.data import Dataset

from vcvae.data.prepare import MANIFEST
from vcvae.errors import VcvaeError


class Utterance(NamedTuple):
    path: Path
    samples: int
    bandwidth: float  # Hz


class SegmentPairs(Dataset):
    """Endless: example n is two segments of one speaker, from two utterances where there are two.

    An example is a dict of `samples` (2, segment) float32, `bandwidth` (2,) in Hz and `speaker`, a number. A pass
    over the data calls each speaker in a fresh order, those with much speech more often (as the root of its length).
    """

    def __init__(self, folder: str | Path, *, segment: int, sample_rate: int, seed: int = 0) -> None:
        """`segment` in samples.

        Raises:
            VcvaeError: `folder` is not prepared, or for another rate, or holds no utterance of two segments.
        """
        self.segment, self.seed = segment, seed
        speakers = defaultdict(list)
        for utterance, speaker in utterances(folder, sample_rate):
            if utterance.samples >= segment:
                speakers[speaker].append(utterance)
        usable = {
            name: list_ for name, list_ in sorted(speakers.items()) if sum(u.samples for u in list_) >= 2 * segment
        }
        if not usable:
            raise VcvaeError(
                f"{folder}: no speaker has two segments of {segment / sample_rate:.2f} s; "
                "lower segment_frames or add longer recordings."
            )
        self.speakers = list(usable)
        self.utterances = list(usable.values())
        total = np.array([sum(u.samples for u in list_) for list_ in self.utterances])
        calls = np.maximum(1, np.round(np.sqrt(total / np.median(total)))).astype(int)
        self.calls = np.repeat(np.arange(len(calls)), calls)

    @property
    def samples(self) -> int:
        """Of all the utterances together."""
        return sum(u.samples for list_ in self.utterances for u in list_)

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        epoch, place = divmod(n, len(self.calls))
        speaker = np.random.default_rng([self.seed, 0, epoch]).permutation(self.calls)[place]
        rng = np.random.default_rng([self.seed, 1, n])
        first, second = self._draw(self.utterances[speaker], rng)
        return {
            "samples": np.stack([self._read(*first), self._read(*second)]),
            "bandwidth": np.array([first[0].bandwidth, second[0].bandwidth], dtype=np.float32),
            "speaker": np.int64(speaker),
        }

    def _draw(self, choices: list[Utterance], rng: np.random.Generator) -> list[tuple[Utterance, int]]:
        """Two (utterance, start), from different utterances or apart in the same one."""
        length = np.array([u.samples for u in choices], dtype=float)
        if len(choices) > 1:
            picks = rng.choice(len(choices), size=2, replace=False, p=length / length.sum())
            return [(u := choices[i], int(rng.integers(u.samples - self.segment + 1))) for i in picks]
        utterance = choices[0]
        room = utterance.samples - 2 * self.segment
        early, late = np.sort(rng.integers(room + 1, size=2))
        starts = rng.permutation([early, late + self.segment])
        return [(utterance, int(start)) for start in starts]

    def _read(self, utterance: Utterance, start: int) -> np.ndarray:
        return sf.read(utterance.path, frames=self.segment, start=start, dtype="float32")[0]


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
