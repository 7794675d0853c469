"""Excerpts of prepared speech, as they are shown to networks that are made small."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vcvae import audio
from vcvae.data.manifest import Manifest

JUDGES = 40  # recordings, of which nothing is made, by which is judged what is
LONGEST = 10.0  # seconds that are heard of a recording

Track = Callable[[Sequence, str], Iterable]


def untracked(steps: Sequence, _: str) -> Iterable:
    """A `Track` that shows nothing."""
    return steps


def drawn(data: Path, sample_rate: int, *, count: int, seed: int) -> tuple[list[Path], list[Path]]:
    """The recordings of a prepared folder in an order that is drawn, and, where there are more than `count`, judges.

    Raises:
        VcvaeError: no prepared folder.
    """
    spoken = [path for path, _ in Manifest(data, sample_rate).utterances()]
    order = [spoken[i] for i in np.random.default_rng(seed).permutation(len(spoken))]
    return order[:count] + order[count + JUDGES :], order[count : count + JUDGES]


def beginning(recording: Path, sample_rate: int, *, multiple: int = 1) -> Tensor:
    """Up to ten seconds of a recording, (1, samples), a `multiple` of so many.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    samples = audio.read(recording, sample_rate)[: round(LONGEST * sample_rate)]
    return torch.from_numpy(samples[: len(samples) // multiple * multiple])[None]


def segments(excerpts: Sequence[Tensor], length: int) -> Tensor:
    """A stretch, drawn, of each (1, …, time) → (batch, …, length), or as long as the shortest allows."""
    length = min(length, *(x.shape[-1] for x in excerpts))
    starts = [int(torch.randint(x.shape[-1] - length + 1, ())) for x in excerpts]
    return torch.cat([x[..., i : i + length] for x, i in zip(excerpts, starts, strict=True)])
