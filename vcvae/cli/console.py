"""What the command line prints: results on standard output; tables, progress and failures on standard error."""

from __future__ import annotations

import io
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vcvae.defaults import STDOUT
from vcvae.progress import no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from vcvae.progress import Progress

MAX_LISTED = 20  # rows of a table of failures; the others are counted
MAX_SENTENCE = 1000  # characters of a message
UNFOLDED = 1000  # columns where there is no terminal: lines are not folded, so that they can be searched
ANNOUNCE_AFTER, ANNOUNCE_EVERY = 5.0, 60.0  # seconds of work after which what is left is printed, without a terminal
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed


class _Console(Console):
    """Prints text as it is: names and messages are no markup, and control characters in them are escaped."""

    def __init__(self, *, stderr: bool) -> None:
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream is None or stream.isatty() else UNFOLDED
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escape_control(text), **options | {"markup": False})


def printable(sentence: str) -> str:
    """The sentence with control characters escaped; the middle of one that a long name fills is left out."""
    sentence = escape_control(sentence)
    half = MAX_SENTENCE // 2
    return sentence if len(sentence) <= MAX_SENTENCE else f"{sentence[:half]}…{sentence[-half:]}"


def escape_control(text: str) -> str:
    r"""The text with control characters, which could change what a terminal shows, as escapes such as \x1b.

    Example:
        >>> print(escape_control("a\x1b[2J.wav"))
        a\x1b[2J.wav
    """
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


out = _Console(stderr=False)
err = _Console(stderr=True)


def open_closed_streams() -> None:
    """Give a standard stream that is closed the null device: what a library prints there would go to another file."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free


def escape_unprintable() -> None:
    """Characters that the encoding of standard output or error cannot hold are escaped from here on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line on standard output."""
    out.print(text, soft_wrap=True)


def say_written(path: Path) -> None:
    """Print the path of a file that was written, unless it is standard output itself."""
    if path != STDOUT:
        say(str(path))


def show_table(title: str, columns: tuple[str, ...], rows: Iterable[tuple]) -> None:
    """Print a table on standard error."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
    err.print(table)


@contextmanager
def progress_bars(*, shown: bool = True) -> Iterator[Callable[..., Progress]]:
    """A function that adds a bar with a description, and gives the callback that moves it; "" is for one to come later.

    Bars are on a terminal only; elsewhere, a line is printed now and then with the time left. Neither is where they are
    not to be `shown`. A bar without a total only shows that work goes on.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(
        *columns, console=err, transient=True, redirect_stdout=False, disable=not (shown and err.is_terminal)
    ) as bars:
        last = [-math.inf]  # when a line was printed, of any bar

        def add_bar(description: str, advice: str = "") -> Progress:
            task = bars.add_task(description, total=None, visible=bool(description))
            announce = _announcer(last, advice) if shown and not err.is_terminal else no_progress

            def update(done: int, total: int | None, description: str) -> None:
                bars.update(task, completed=done, total=total, description=description, visible=done != total)
                announce(done, total, description)

            return update

        yield add_bar


def _announcer(last: list[float], advice: str) -> Progress:
    """A callback that prints a line with the time left, at most every `ANNOUNCE_EVERY` seconds.

    Args:
        last: when one was printed, by this or another callback.
        advice: stands at the end of each line.
    """
    start, first_done, last_done, last_total = 0.0, 0, math.inf, None

    def announce(done: int, total: int | None, description: str) -> None:
        nonlocal start, first_done, last_done, last_total
        now = time.monotonic()
        if done < last_done or total != last_total:  # other work begins
            start, first_done = now, done
        last_done, last_total = done, total
        elapsed = now - start
        is_due = elapsed >= ANNOUNCE_AFTER and now - last[0] >= ANNOUNCE_EVERY
        if is_due and total is not None and first_done < done < total:
            last[0] = now
            left = _duration(elapsed / (done - first_done) * (total - done))
            err.print(f"{printable(description)}: {done} of {total}, about {left} left{advice}", soft_wrap=True)

    return announce


@contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """One bar, and the callback that moves it."""
    with progress_bars() as add_bar:
        yield add_bar(description)


def learning_progress(add_bar: Callable[..., Progress], *, advice: str = "") -> Progress:
    """A callback that adds a bar when fine-tuning begins; `advice` stands at the end of a line that is printed."""
    bar = None

    def update(done: int, total: int | None, description: str) -> None:
        nonlocal bar
        bar = bar or add_bar("fine-tuning", advice)
        bar(done, total, f"fine-tuning ({description})")

    return update


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
