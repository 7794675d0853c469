"""How a long task reports its progress: one callback type for all that prepare, export, train, convert or evaluate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[int, int | None, str], None]
"""Called with (done, total, description): how many of how many (None: unknown) are done, and of what."""


def report_blocks(
    blocks: Iterable[np.ndarray], rate: float, total: float, progress: Progress, description: str, *, axis: int = -1
) -> Iterator[np.ndarray]:
    """Blocks, of `rate` values per second on `axis`; before each, `progress` gets the seconds of those before it.

    They are processed after they are given, so the last report is less than `total`, the seconds of all. Where there
    are more than a header states, their number is unknown.
    """
    done = 0
    for block in blocks:
        seconds = int(done / rate)
        most = round(total) if seconds <= total < math.inf else None
        progress(seconds if most is None else min(seconds, most), most, f"{description}, seconds")
        yield block
        done += block.shape[axis]


def no_progress(done: int, total: int | None, description: str) -> None:
    """A `Progress` that reports nothing."""
