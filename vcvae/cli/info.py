"""The commands that describe what is there: info and env."""

from __future__ import annotations

from typing import Annotated

import typer

from vcvae.cli.console import say
from vcvae.cli.options import model_name


def info(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model's folder or repository, a run's folder, or a .voice; by default, the released model.",
            parser=model_name,
        ),
    ] = None,
) -> None:
    """Describe a model (sizes, parameters, mel, card), a training run (step, last figures), or a voice."""
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
