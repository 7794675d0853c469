"""Long recordings in overlapping pieces, so that memory does not grow with their length.

Pieces are joined where their overlap is quietest: vocoders choose the phases anew in each piece, and a change of phase
in a pause is not audible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

PIECE_FRAMES = 2560  # mel frames between the starts of two pieces: 29.7 s
OVERLAP_FRAMES = 176  # mel frames that two pieces share: 2 s; convolutions reach less than 0.7 s to either side
FADE_FRAMES = 2  # mel frames of the cross-fade: 23 ms


def split_pieces(blocks: Iterable[np.ndarray], piece: int, overlap: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Blocks of an array (…, time) → pieces of `piece + overlap` that start every `piece`, and whether one is the last.

    The last is the remainder: less than `2 · piece + overlap`, and, unless it is the only one, at least
    `piece + overlap`.
    """
    remaining = None
    for block in blocks:
        remaining = block if remaining is None else np.concatenate([remaining, block], axis=-1)
        while remaining.shape[-1] >= 2 * piece + overlap:
            yield remaining[..., : piece + overlap], False
            remaining = remaining[..., piece:]
    if remaining is not None:
        yield remaining, True


def cut_pieces(pieces: Iterable[tuple[np.ndarray, bool]], piece: int, overlap: int) -> Iterator[np.ndarray]:
    """Pieces (…, time), as of `split_pieces`, and whether each is the last → the same cut amid their overlap."""
    start = 0
    for values, is_last in pieces:
        yield values[..., start : None if is_last else piece + overlap // 2]
        start = overlap // 2


def process_pieces(
    blocks: Iterable[np.ndarray], process: Callable[[np.ndarray], np.ndarray], *, hop: int
) -> Iterator[np.ndarray]:
    """Blocks of samples → the samples that `process` makes of them, piece by piece.

    `process` gives as many samples (samples,) as it gets: half a minute, or, at the end and of a short recording, up to
    a minute. `hop` is the number of samples per mel frame.
    """
    pieces = split_pieces(blocks, PIECE_FRAMES * hop, OVERLAP_FRAMES * hop)
    yield from join_pieces(((process(samples), is_last) for samples, is_last in pieces), hop=hop)


def join_pieces(pieces: Iterable[tuple[np.ndarray, bool]], *, hop: int) -> Iterator[np.ndarray]:
    """Pieces of samples, as of `split_pieces`, and whether each is the last → the same with cross-faded overlaps."""
    overlap = np.empty(0, np.float32)
    for samples, is_last in pieces:
        joined = cross_fade(overlap, samples, hop)
        end = len(joined) if is_last else PIECE_FRAMES * hop
        yield joined[:end]
        overlap = joined[end:]


def cross_fade(before: np.ndarray, after: np.ndarray, hop: int) -> np.ndarray:
    """Fade the end of one piece into the start of the next, where the middle half of their overlap is quietest.

    Args:
        before: (overlap,) samples, the same stretch of time as the start of `after`; empty for the first piece.
        after: (samples,).
        hop: samples per mel frame.
    """
    if not len(before):
        return after
    import scipy.ndimage  # a third of a second, which short sources need not wait for

    frames = len(before) // hop
    quarter = frames // 4
    half = FADE_FRAMES * hop // 2
    power = np.square(before) + np.square(after[: len(before)])
    loudness = scipy.ndimage.uniform_filter1d(power, 4 * half)[quarter * hop : (frames - quarter) * hop]
    centre = quarter * hop + int(loudness.argmin())
    weight = np.zeros(len(before), np.float32)
    weight[centre - half : centre + half] = np.linspace(0, 1, 2 * half, dtype=np.float32)
    weight[centre + half :] = 1
    return np.concatenate([(1 - weight) * before + weight * after[: len(before)], after[len(before) :]])
