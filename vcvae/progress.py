"""How a long task reports its progress: one callback type for all that prepare, export, train, convert or evaluate."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None, str], None]
"""Called with (done, total, description): how many of how many (None: unknown) are done, and of what."""


def no_progress(done: int, total: int | None, description: str) -> None:
    """A `Progress` that reports nothing."""
