"""The source of a conversion: its mel and F0, and what is measured of the whole of it before any of it is converted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from vcvae.convert.encoder import too_short
from vcvae.features.f0 import F0Contour, F0Statistics, VoicedMoments
from vcvae.features.mel import MelConfig

EXCERPT_FRAMES = 430  # mel frames of the excerpt: 5 s
MIN_EXCERPT_FRAMES = 86  # of a shorter source, 1 s, the statistics say too little


@dataclass(frozen=True)
class EncodedSource:
    """A source, or a piece of it: samples (samples,), ln-mel (1, n_mels, frames) and F0 (1, ceil(frames / 2))."""

    samples: np.ndarray
    mel: Tensor
    f0: F0Contour


class Excerpt:
    """The stretch of a source with the most sound, of blocks.

    Attributes:
        mel: ln-mel (1, n_mels, `EXCERPT_FRAMES` at most); None where there is too little, or no sound at all.
        f0: its contour, with one value for two frames.
    """

    def __init__(self, config: MelConfig) -> None:
        self._level = math.log(config.floor)
        self.mel: Tensor | None = None
        self.f0: F0Contour | None = None

    def add(self, mel: Tensor, f0: F0Contour) -> None:
        """The next block: ln-mel (1, n_mels, frames) and F0 (1, ceil(frames / 2))."""
        if mel.shape[2] < MIN_EXCERPT_FRAMES:
            return
        # The mean of the logarithm: a minute of speech counts for more than a door that slams.
        frames = min(mel.shape[2], EXCERPT_FRAMES)
        levels = mel[0].mean(dim=0).unfold(0, frames, 1).mean(dim=1)
        start = int(levels.argmax()) // 2 * 2
        if levels[start] > self._level + 1e-3:
            self._level = float(levels[start])
            self.mel = mel[..., start : start + frames].clone()
            self.f0 = f0[:, start // 2 : -(-(start + frames) // 2)]


@dataclass(frozen=True)
class SourceAnalysis:
    """What the conversion of any piece of a source needs of the whole of it.

    Attributes:
        f0_statistics: (1,), over all of it.
        excerpt: of it, by which a conversion is guided.
        encoded: all of it, if it is a single block; else None.
    """

    f0_statistics: F0Statistics
    excerpt: Excerpt
    encoded: EncodedSource | None


def analyze_source(
    blocks: Iterable[np.ndarray], encode: Callable[[np.ndarray], EncodedSource], config: MelConfig, *, name: str | Path
) -> SourceAnalysis:
    """One pass over a source, in memory that does not grow with its length.

    Args:
        blocks: its samples from the start, each (samples,), at the mel's rate.
        encode: computes mel and F0 of a block.
        config: of the mel.
        name: of the source, in messages.

    Raises:
        VcvaeError: the source is too short for a mel.
    """
    excerpt = Excerpt(config)
    encoded = None
    moments = VoicedMoments()  # a contour for each block of hours would keep the memory of much larger tensors in use
    n_blocks = 0
    n_samples = 0
    for block in blocks:
        n_blocks += 1
        n_samples += len(block)
        if len(block) >= config.minimum_samples:
            encoded = encode(block)
            moments.add(encoded.f0)
            excerpt.add(encoded.mel, encoded.f0)
    if n_samples < config.minimum_samples:
        raise too_short(name, n_samples, config)
    return SourceAnalysis(moments.statistics(), excerpt, encoded if n_blocks == 1 else None)
