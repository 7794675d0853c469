"""The command that converts recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.batch import Batch, Failures, Job, name_of, read_batch, read_pairs
from vcvae.cli.console import learning_progress, progress_bar, progress_bars
from vcvae.cli.options import (
    Device,
    Force,
    Model,
    Output,
    PitchShift,
    Refine,
    Replay,
    Steps,
    Vocoder,
    VocoderSeed,
    check_refine,
    non_empty_path,
    refuse_ignored,
    source_path,
    vocoder_seed,
)
from vcvae.errors import VcvaeError
from vcvae.progress import Progress


def convert(
    source: Annotated[
        Path | None,
        typer.Argument(help="A recording, or - for standard input; or a folder of them.", parser=source_path),
    ] = None,
    target: Annotated[
        list[Path] | None,
        typer.Option(
            help="A recording of the target speaker, or a folder of them; may be repeated. Or a .voice that "
            "`vcvae voice` made. A model that `vcvae fit` made has its own target and needs none.",
            parser=source_path,
        ),
    ] = None,
    output: Output = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="A table of conversions: source, target[;target…], output, with tabs between.", parser=non_empty_path
        ),
    ] = None,
    model: Model = None,
    vocoder: Vocoder = None,
    device: Device = "auto",
    seed: VocoderSeed = None,
    pitch_shift: PitchShift = 0.0,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Convert in one pass, without learning the target's voice first: --steps 0."),
    ] = False,
    steps: Steps = None,
    replay: Replay = None,
    refine: Refine = 0,
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", help="Neither look for the target's voice among those learned before, nor keep it."),
    ] = False,
    force: Force = False,
) -> None:
    """Convert SOURCE to the voice of --target, which is learned first, and kept for the next conversion."""
    if pairs and (source or target or output):
        raise VcvaeError("--pairs: names sources, targets and outputs itself; give nothing beside it.")
    if not (pairs or source):
        raise VcvaeError("convert: give a SOURCE, or a table with --pairs.")
    if not (pairs or target or model):
        raise VcvaeError("--target: missing; give a recording of the target speaker.")
    seed = vocoder_seed(seed, vocoder)
    if quick:
        refuse_ignored({"--steps": steps, "--replay": replay}, "with --quick: nothing is learned")
    if steps == 0:
        refuse_ignored({"--replay": replay}, "with --steps 0: nothing is learned")
    learns = not quick and steps != 0
    from vcvae.cli.processes import Processes

    def read() -> Batch:
        name = name_of(target[0]) if target else Path(model or "").name
        with progress_bar("finding files") as progress:
            batch = read_pairs(pairs) if pairs else read_batch(source, output, f"to-{name}", target)
            check_refine(refine, (job.source for job in batch.jobs))
            batch.check_output(force, progress)
        return batch

    with Processes(device) as processes:
        batch = processes.from_first(read)
        batch.share(processes, learn=learns)
        if batch.jobs:
            from vcvae.cli.targets import Learning, load_converter

            with progress_bars(shown=processes.is_first) as add_bar:
                progress, part = add_bar("converting"), add_bar("")
                learning = None
                if learns:
                    learning = Learning(
                        steps=steps,
                        replay=replay,
                        use_cache=not no_cache,
                        announce=batch.single,
                        left_out=batch.left_out,
                        progress=learning_progress(add_bar, advice=" (--quick skips it)"),
                    )
                converter = load_converter(
                    model,
                    batch.jobs,
                    vocoder=vocoder,
                    device=device,
                    seed=seed,
                    learning=learning,
                    left_out=batch.left_out,
                    refine_steps=refine,
                )

                def convert_one(job: Job, progress: Progress) -> None:
                    converter.convert_file(job, pitch_shift=pitch_shift, force=force, progress=progress)

                batch.run(convert_one, progress, part)
        failures = Failures.join(processes.gather(batch.failures))
        batch.left_out = Failures.join(processes.gather(batch.left_out))
    if processes.is_first:
        batch.report(failures, "converted")
