"""The commands that describe what is there: info and env."""

from __future__ import annotations

from typing import Annotated

import typer

from vcvae.cli.console import say


def info(
    model: Annotated[
        str | None,
        typer.Argument(help="Folder or repository of a model, or folder of a run; by default, the released model."),
    ] = None,
) -> None:
    """Describe a model or a training run: sizes, parameters, mel, card; step and last figures."""
    from vcvae.cli.describe import describe

    if model is None:
        from vcvae.pretrained import CONVERSION

        model = str(CONVERSION)
    for name, value in describe(model):
        say(f"{name}: {value}")


def env() -> None:
    """Print versions, devices and threads, for a bug report."""
    from vcvae.environment import environment

    for name, value in environment().items():
        say(f"{name}: {value}")
