"""Long recordings in overlapping pieces, and what is done to the converted signal: joins, loudness, pauses.

Memory does not grow with a recording's length. Pieces are joined where their overlap is quietest: vocoders choose the
phases anew in each piece, and a change of phase in a pause is not audible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.features.mel import level
from vcvae.features.stft import moving_average

PIECE_FRAMES = 2560  # mel frames between the starts of two pieces: 29.7 s
OVERLAP_FRAMES = 176  # mel frames that two pieces share: 2 s; convolutions reach less than 0.7 s to either side
FADE_FRAMES = 2  # mel frames of the cross-fade: 23 ms
PAUSE_THRESHOLD = 3.5  # nepers (30 dB) below the mean level, under which a source is taken to pause
SMOOTHING_FRAMES = 5  # mel frames over which the level is averaged to find pauses: 58 ms


def split_pieces(blocks: Iterable[np.ndarray], piece: int, overlap: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Blocks of samples → pieces of `piece + overlap` samples that start every `piece`, and whether one is the last.

    The last is the remainder: less than `2 · piece + overlap` samples, and, unless it is the only one, at least
    `piece + overlap`.
    """
    remaining = np.empty(0, np.float32)
    for block in blocks:
        remaining = np.concatenate([remaining, block])
        while len(remaining) >= 2 * piece + overlap:
            yield remaining[: piece + overlap], False
            remaining = remaining[piece:]
    yield remaining, True


def cross_fade(before: np.ndarray, after: np.ndarray, mel: Tensor, hop: int) -> np.ndarray:
    """Fade the end of one piece into the start of the next, where the middle half of their overlap is quietest.

    Args:
        before: (overlap,) samples, the same stretch of time as the start of `after`; empty for the first piece.
        after: (samples,).
        mel: the ln-mel of `after`, (n_mels, frames).
        hop: samples per mel frame.
    """
    if not len(before):
        return after
    frames = len(before) // hop
    quarter = frames // 4
    loudness = moving_average(mel[:, :frames].exp().mean(dim=0)[None, None], 2 * FADE_FRAMES + 1)[0, 0]
    centre = (quarter + int(loudness[quarter : frames - quarter].argmin())) * hop
    half = FADE_FRAMES * hop // 2
    weight = np.zeros(len(before), np.float32)
    weight[centre - half : centre + half] = np.linspace(0, 1, 2 * half, dtype=np.float32)
    weight[centre + half :] = 1
    return np.concatenate([(1 - weight) * before + weight * after[: len(before)], after[len(before) :]])


class LoudnessMatch:
    """The gain that makes a conversion as loud as its source, from sums over all pieces. DC offsets do not count."""

    def __init__(self) -> None:
        self.source_sums = np.zeros(3)  # number of samples, their sum, and the sum of their squares
        self.converted_sums = np.zeros(3)
        self.peak = 0.0

    def add(self, source: np.ndarray, converted: np.ndarray) -> None:
        """Count a piece of both, (samples,) each."""
        self.source_sums += _sums(source)
        self.converted_sums += _sums(converted)
        self.peak = max(self.peak, float(np.abs(converted).max(initial=0)))

    @property
    def gain(self) -> np.float32:
        """For equal variance, or less where the peak would exceed full scale."""
        ratio = _variance(self.source_sums) / _variance(self.converted_sums)
        return np.float32(min(ratio**0.5, 0.99 / max(self.peak, 1e-12)))


def _sums(samples: np.ndarray) -> tuple[int, float, float]:
    return len(samples), samples.sum(dtype=float), np.square(samples, dtype=float).sum()


def _variance(sums: np.ndarray) -> float:
    count, total, squares = sums
    return max(squares / count - (total / count) ** 2, 1e-12)


def attenuate_pauses(
    converted: Tensor,
    source_mel: Tensor,
    *,
    source_level: Tensor | float | None = None,
    converted_level: Tensor | float | None = None,
) -> Tensor:
    """Make a conversion as quiet as its source where the source pauses; ln-mels (batch, n_mels, frames).

    A decoder gives the mean of the noises that it was trained on, which is louder than a quiet recording's pauses.
    Levels, in nepers, are those of the whole, where the mels are parts of it; by default, those of the mels.
    """
    source_level = _frame_levels(source_mel) - (level(source_mel) if source_level is None else source_level)
    converted_level = _frame_levels(converted) - (level(converted) if converted_level is None else converted_level)
    weight = (-PAUSE_THRESHOLD - source_level).clamp(0, 1)  # rises over one neper, so that nothing is cut off abruptly
    return converted + weight * (source_level - converted_level).clamp(max=0)


def _frame_levels(mel: Tensor) -> Tensor:
    """The smoothed level of each frame, in nepers, (batch, 1, frames)."""
    frames = torch.exp(2 * mel).sum(dim=1, keepdim=True).log() / 2
    # Not `moving_average`: at the ends the window shrinks, where repeating a single end frame would count it thrice.
    return F.avg_pool1d(frames, SMOOTHING_FRAMES, 1, SMOOTHING_FRAMES // 2, count_include_pad=False)
