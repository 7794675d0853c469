"""One function for many items, by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from vcvae.errors import VcvaeError


def map_in_processes(function: Callable, *arguments: Iterable, jobs: int, chunk: int = 1) -> Iterator[Any]:
    """Like `map`, by `jobs` processes, which take `chunk` items at a time.

    Raises:
        VcvaeError: a process was killed.
    """
    if jobs == 1:
        yield from map(function, *arguments)
        return
    try:
        with ProcessPoolExecutor(jobs) as pool:
            yield from pool.map(function, *arguments, chunksize=chunk)
    except BrokenProcessPool:
        raise VcvaeError(
            "--jobs: a process was killed, perhaps for lack of memory; run the same command with fewer jobs."
        ) from None
