"""What a person can put right: one sentence that names the file or option, what was wrong, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class VcvaeError(Exception):
    """Bad input. The command line prints its message alone, without a traceback, and exits with code 2."""


@contextmanager
def disk_errors(path: str | Path, verb: str = "written") -> Iterator[None]:
    """What the disk, or a library that uses it, refuses within the block becomes one sentence about `path`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, AssertionError) as error:  # soundfile asserts that all was written
        reason = getattr(error, "strerror", None) or str(error).rstrip(".") or "the disk may be full"
        raise VcvaeError(f"{path}: cannot be {verb} ({reason}); give another path.") from None
