"""Options that several commands share, and checks of their values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def finite(value: float) -> float:
    if not math.isfinite(value):
        raise typer.BadParameter("give a finite number.")
    return value


def non_empty_path(text: str) -> Path:
    if not text:
        raise typer.BadParameter("an empty path; is a variable not set?")
    return Path(text)


Model = Annotated[str | None, typer.Option(help="Folder or Hugging Face repository; by default, the released model.")]
Vocoder = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        help="source-filter (the released one), griffin-lim, or source-filter:, vocos:, bigvgan: with a folder or "
        "repository, or hifigan:PATH.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
VocoderSeed = Annotated[
    int, typer.Option("--seed", min=0, max=2**63 - 1, help="Random seed of Griffin-Lim's initial phases.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="WAV or FLAC file; a folder where SOURCE is one; by default, beside SOURCE."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")]
