"""The commands that change a voice: convert, and adapt, which makes a converter to one voice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.batch import Job, read_batch, read_pairs
from vcvae.cli.console import finetuning_progress, progress_bars, say
from vcvae.cli.options import Device, Force, Model, Output, Vocoder, VocoderSeed, finite, non_empty_path
from vcvae.defaults import ADAPT_STEPS, VOICE_STEPS
from vcvae.errors import VcvaeError


def convert(
    source: Annotated[
        Path | None, typer.Argument(help="A recording, or a folder of them.", parser=non_empty_path)
    ] = None,
    target: Annotated[
        list[Path] | None,
        typer.Option(
            help="A recording of the target speaker, or a folder of them; may be repeated. "
            "A model that `vcvae adapt` or `vcvae fit` made has its own target and needs none."
        ),
    ] = None,
    output: Output = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="A table of conversions: source, target[;target…], output, with tabs between."),
    ] = None,
    model: Model = None,
    vocoder: Vocoder = None,
    device: Device = "auto",
    seed: VocoderSeed = 0,
    pitch_shift: Annotated[
        float, typer.Option(callback=finite, help="Semitones, added to the target's mean F0.")
    ] = 0.0,
    steps: Annotated[
        int,
        typer.Option(min=0, help="Steps of fine-tuning on the target first: minutes on a CPU; with 0, seconds."),
    ] = ADAPT_STEPS,
    force: Force = False,
) -> None:
    """Convert SOURCE to the voice of --target."""
    if pairs and (source or target or output):
        raise VcvaeError("--pairs: names sources, targets and outputs itself; give nothing beside it.")
    if not (pairs or source):
        raise VcvaeError("convert: give a SOURCE, or a table with --pairs.")
    if not (pairs or target or model):
        raise VcvaeError("--target: missing; give a recording of the target speaker.")
    name = target[0].resolve().stem if target else Path(model or "").name
    batch = read_pairs(pairs) if pairs else read_batch(source, output, f"to-{name}", target)
    batch.check_output(force)
    from vcvae.cli.targets import load_converter

    with progress_bars() as add_bar:
        progress = add_bar("converting")
        converter = load_converter(
            model,
            batch.jobs,
            vocoder=vocoder,
            device=device,
            seed=seed,
            steps=steps,
            progress=finetuning_progress(add_bar, advice=" (--steps 0 skips it)"),
        )

        def convert_one(job: Job) -> None:
            converter.convert_file(job, pitch_shift=pitch_shift, force=force)

        failures = batch.run(convert_one, progress)
    batch.report(failures, "converted")


def adapt(
    recordings: Annotated[
        Path, typer.Argument(help="A folder of one speaker's recordings, 1 to 30 minutes.", parser=non_empty_path)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the new model.")],
    model: Model = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of fine-tuning.")] = VOICE_STEPS,
    device: Device = "auto",
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed of the fine-tuning and of the choice of held-out utterances.")
    ] = 0,
    force: Force = False,
) -> None:
    """Make a converter to one voice: fine-tune on RECORDINGS once, then convert without --target."""
    from vcvae.convert.adapt import adapt

    with progress_bars() as add_bar:
        report = adapt(
            model,
            recordings,
            output,
            steps=steps,
            seed=seed,
            device=device,
            force=force,
            progress=finetuning_progress(add_bar),
        )
    say(f"{output}: fine-tuned on {report.seconds / 60:.1f} minutes of speech in {report.utterances} pieces")
    if report.held_out:
        say(
            f"mel L1 of {report.held_out} held-out pieces, reconstructed: {report.before:.3f} before, "
            f"{report.after:.3f} after"
        )
    else:
        say("too few pieces to hold one out: the reconstruction error is not measured")
