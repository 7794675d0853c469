"""The commands that say what is there."""

from __future__ import annotations

from typing import Annotated

import typer

from vcvae.cli.batch import say


def info(
    model: Annotated[
        str | None, typer.Argument(help="A model's folder or repository, or a run's folder; else the model that ships.")
    ] = None,
) -> None:
    """Print what a model or a training run is: sizes, parameters, mel, card; step and last figures."""
    from vcvae.cli.describe import info

    if model is None:
        from vcvae.pretrained import CONVERSION

        model = str(CONVERSION)
    for name, value in info(model):
        say(f"{name}: {value}")


def env() -> None:
    """Print versions, devices and threads: what a bug report needs."""
    from vcvae.environment import environment

    for name, value in environment().items():
        say(f"{name}: {value}")
