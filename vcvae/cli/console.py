"""What the command line prints: results on standard output; tables, progress and failures on standard error."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from vcvae.defaults import STDOUT

if TYPE_CHECKING:
    from pathlib import Path

    from vcvae.progress import Progress

MAX_LISTED = 20  # rows of a table of failures; the others are counted
UNFOLDED = 1000  # columns where there is no terminal: lines are not folded, so that they can be searched
ANNOUNCE_AFTER = 5.0  # seconds of fine-tuning from which the rest is estimated, where no bar can be shown


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, emoji=False, width=None if stream.isatty() else UNFOLDED)


out = _console(stderr=False)
err = _console(stderr=True)


def escape_unprintable() -> None:
    """Characters that the encoding of standard output or error cannot hold are escaped from here on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line on standard output."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def say_written(path: Path) -> None:
    """Print the path of a file that was written, unless it is standard output itself."""
    if path != STDOUT:
        say(str(path))


def show_table(title: str, columns: tuple[str, ...], rows: Iterable[tuple]) -> None:
    """Print a table on standard error."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    err.print(table, markup=False)


@contextmanager
def progress_bars(*, shown: bool = True) -> Iterator[Callable[[str], Progress]]:
    """A function that adds a bar with a description, and gives the callback that moves it.

    Bars are on a terminal only, and if they are to be `shown`. A bar without a total only shows that work goes on.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(
        *columns, console=err, transient=True, redirect_stdout=False, disable=not (shown and err.is_terminal)
    ) as bars:

        def add_bar(description: str) -> Progress:
            task = bars.add_task(description, total=None)

            def update(done: int, total: int | None, description: str) -> None:
                bars.update(task, completed=done, total=total, description=description, visible=done != total)

            return update

        yield add_bar


@contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """One bar, and the callback that moves it."""
    with progress_bars() as add_bar:
        yield add_bar(description)


def learning_progress(add_bar: Callable[[str], Progress], *, shown: bool = True, advice: str = "") -> Progress:
    """A callback that adds a bar when fine-tuning begins; without a terminal, it prints one line with the time left.

    Args:
        shown: whether it prints that line.
        advice: stands at the end of that line.
    """
    bar = None
    start, first_done = 0.0, 0
    announced = err.is_terminal or not shown

    def update(done: int, total: int | None, description: str) -> None:
        nonlocal bar, start, first_done, announced
        if bar is None:
            bar = add_bar("fine-tuning")
            start, first_done = time.monotonic(), done
        bar(done, total, f"fine-tuning: {description}")
        elapsed = time.monotonic() - start
        if announced or elapsed < ANNOUNCE_AFTER or total is None or done == total:
            return
        announced = True
        left = _duration(elapsed / (done - first_done) * (total - done))
        err.print(f"fine-tuning: {total} steps, about {left} left{advice}", highlight=False)

    return update


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
