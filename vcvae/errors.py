"""Errors that the user can correct: one sentence that names the file or option, what is wrong, and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class VcvaeError(Exception):
    """Bad input. The command line prints its message alone, without a traceback, and exits with code 2."""


@contextmanager
def disk_errors(path: str | Path, verb: str = "written", *, advice: str = "give another path") -> Iterator[None]:
    """Turn errors of the disk, or of a library that uses it, within the block into a VcvaeError about `path`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, AssertionError) as error:  # soundfile asserts that all is written
        reason = getattr(error, "strerror", None) or str(error).rstrip(".") or "the disk may be full"
        raise VcvaeError(f"{path}: cannot be {verb} ({reason}); {advice}.") from None


def check_absent(path: str | Path, force: bool) -> None:
    """Raise a VcvaeError if `path` exists, unless `force`."""
    if Path(path).exists() and not force:
        raise VcvaeError(f"{path}: exists already; give --force to overwrite it.")


@contextmanager
def replacing(path: str | Path, *, advice: str = "give another path") -> Iterator[BinaryIO]:
    """A binary file to write, which replaces `path` at the end of the block; after an error nothing is left of it."""
    unfinished = Path(path).with_name(f".{Path(path).name}.unfinished")
    with disk_errors(path, advice=advice):
        try:
            with open(unfinished, "wb") as file:
                yield file
            os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
