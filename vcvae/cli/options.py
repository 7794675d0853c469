"""Options that several commands have, and what is asked of their values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def finite(value: float) -> float:
    if not math.isfinite(value):
        raise typer.BadParameter("give a finite number.")
    return value


def named(text: str) -> Path:
    if not text:
        raise typer.BadParameter("an empty path; is a variable not set?")
    return Path(text)


Model = Annotated[str | None, typer.Option(help="Folder or Hugging Face repository; the model that ships by default.")]
Speaks = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        help="neural (which ships), griffin-lim, or neural:, vocos:, bigvgan: with a SOURCE, or hifigan:PATH.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the phases that Griffin-Lim starts from.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="WAV or FLAC; a folder where the source is one.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")]
