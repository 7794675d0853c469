"""What a training run shows on the console: a progress bar in a terminal, lines of figures elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(console: Console, *, visible: bool) -> Progress:
    """A progress bar with the field `rate`; nothing unless `visible` and on a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not (visible and console.is_terminal),
    )


def format_figures(step: int, figures: dict[str, float]) -> str:
    """One line of figures by name.

    Example:
        >>> format_figures(50, {"nll": 0.5})
        'step      50  nll 0.5'
    """
    return f"step {step:>7}  " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
