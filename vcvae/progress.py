"""How a long task reports its progress: one callback type for preparing, exporting, training, converting and evaluating."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None, str], None]
"""Called with (done, total, description): how many of how many (None: unknown) are done, and of what."""


def no_progress(done: int, total: int | None, description: str) -> None:
    """A `Progress` that reports nothing."""
