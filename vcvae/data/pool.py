"""Processes that work for this one: one function for many items; and none outlives its parent."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from vcvae.errors import VcvaeError


def map_in_processes(function: Callable, *arguments: Sequence, jobs: int, chunk: int = 1) -> Iterator[Any]:
    """Like `map`, by `jobs` processes at most, which take `chunk` items at a time.

    Raises:
        VcvaeError: a process was killed.
    """
    jobs = min(jobs, math.ceil(min(map(len, arguments)) / chunk))
    if jobs <= 1:
        yield from map(function, *arguments)
        return
    try:
        with ProcessPoolExecutor(jobs, initializer=follow_parent, initargs=(signal.SIGINT,)) as pool:
            yield from pool.map(function, *arguments, chunksize=chunk)
    except BrokenProcessPool:
        raise VcvaeError(
            "--jobs: a process was killed, perhaps for lack of memory; run the same command with fewer jobs."
        ) from None


def follow_parent(*ignored: signal.Signals) -> None:
    """Called first in a child process: it ends when its parent has ended, however that was, and not by these signals.

    A parent that is killed notifies no child, which would then wait for work without end. Ctrl-C reaches the whole
    process group; the parent decides what is still done.
    """
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
