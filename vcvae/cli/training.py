"""The commands that make a model of data: train, export, fit and run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.console import out, progress_bar, say
from vcvae.cli.options import Force, non_empty_path, refuse_others
from vcvae.errors import VcvaeError

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value, which replaces the file's, such as optimizer.clip=0.5; may be repeated."),
]


def train(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="A YAML file.", parser=non_empty_path)] = None,
    assignments: Assignments = None,
    task: Annotated[
        str | None,
        typer.Option("--explain", metavar="TASK", help="Print every configuration key of a task, and train nothing."),
    ] = None,
) -> None:
    """Train the network that CONFIG describes; the same command again resumes an interrupted run."""
    if task is not None:
        refuse_others(context, "--explain")
        from vcvae.cli.explain import explain_task

        say(explain_task(task))
        return
    if config is None:
        raise VcvaeError("train: give a CONFIG, a YAML file, or --explain TASK.")
    from vcvae.config import override, read_yaml

    values = override(read_yaml(config), assignments or [])
    from vcvae.training.loop import train
    from vcvae.training.stopping import Stopped
    from vcvae.training.tasks import parse

    with suppress(Stopped):  # it was announced, and a launcher would take another exit code for a failure
        train(parse(values, context=str(config)), out)


def fit(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Argument(help="A YAML file, such as recipes/family/gmm_conversion.yaml.", parser=non_empty_path),
    ] = None,
    assignments: Assignments = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print every configuration key, and fit nothing.")] = False,
) -> None:
    """Fit the joint-density Gaussian mixture of a pair of speakers to their parallel recordings."""
    from vcvae.training.joint_density import JointDensityConfig, fit

    if explain:
        refuse_others(context, "--explain")
        from vcvae.cli.explain import explain_config

        say(explain_config(JointDensityConfig))
        return
    if config is None:
        raise VcvaeError("fit: give a CONFIG, a YAML file, or --explain.")
    from vcvae.config import override, read_yaml

    values = override(read_yaml(config), assignments or [])
    parsed = JointDensityConfig.parse(values, context=str(config))
    with progress_bar("fitting") as progress:
        report = fit(parsed, progress=progress)
    say(f"{parsed.output}: fitted to {report.sentences} sentences, {report.octaves:+.2f} octaves")
    if report.held_out:
        say(
            f"mel-cepstral distortion of {report.held_out} held-out sentences: {report.before:.2f} dB before, "
            f"{report.after:.2f} dB after"
        )


def run(
    recipe: Annotated[
        Path, typer.Argument(help="The folder of a recipe, such as recipes/mini.", parser=non_empty_path)
    ],
    first: Annotated[str | None, typer.Option("--from", help="The first step to run, even if it is done.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last step to run.")] = None,
    source: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpus; by default, the one that the recipe names.", parser=non_empty_path),
    ] = None,
    launch: Annotated[
        Path | None,
        typer.Option(
            help="An accelerate configuration, with which training steps are launched.", parser=non_empty_path
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="key=value, which replaces the recipe's, such as options.machine=gpu; may be repeated."
        ),
    ] = None,
) -> None:
    """Run all steps of a recipe, from the corpus to conversions; finished steps are skipped."""
    from vcvae.cli.recipe import run

    run(recipe, say, first=first, last=last, source=source, launch=launch, assignments=assignments or [])


def export(
    run: Annotated[Path, typer.Argument(help="The output folder of a training run.", parser=non_empty_path)],
    destination: Annotated[
        Path, typer.Argument(help="A folder for the weights and their configuration.", parser=non_empty_path)
    ],
    best: Annotated[
        bool, typer.Option("--best", help="Export the checkpoint with the best validation, not the last one.")
    ] = False,
    small: Annotated[bool, typer.Option("--small", help="Weights as 8-bit integers, not float16.")] = False,
    force: Force = False,
) -> None:
    """Write a run's EMA weights as a model: float16 safetensors, config.json and a model card."""
    from vcvae.training.export import export

    with progress_bar("exporting"):
        step = export(run, destination, best=best, small=small, force=force)
    say(f"{destination}: written from step {step}")
