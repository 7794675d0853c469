"""The commands that measure conversion models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.console import progress_bars, say
from vcvae.cli.options import Device, Force, Steps, Vocoder, model_name, non_empty_path, refuse_ignored
from vcvae.defaults import MAX_VOICE_STEPS, VOICE_STEPS
from vcvae.errors import VcvaeError, check_absent, replacing

COUNT = 24  # conversions that are drawn from a corpus


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(help="Folder or Hugging Face repository; by default, the released model.", parser=model_name),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            help="A table of conversions: id, source, targets[, transcript, reference].", parser=non_empty_path
        ),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="A prepared folder of unseen speakers, from which conversions are drawn.", parser=non_empty_path
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder for conversions and report.", parser=non_empty_path)
    ] = Path("evaluation"),
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder to which paths in --cases are relative; by default, the table's own.", parser=non_empty_path
        ),
    ] = None,
    anonymization: Annotated[
        bool,
        typer.Option(
            "--anonymization",
            help="Measure anonymization instead, on the speakers of --corpus: attackers' errors, and what is left of "
            "the speech.",
        ),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, help=f"Number of conversions that are drawn from --corpus; by default, {COUNT}."
        ),
    ] = None,
    verifier: Annotated[
        list[str] | None,
        typer.Option(help="Speaker verifier: campplus, resemblyzer, wespeaker[:FOLDER], ecapa; may be repeated."),
    ] = None,
    asr: Annotated[
        list[str] | None,
        typer.Option(help="Recognizer, such as whisper:tiny.en or whisper:FOLDER; may be repeated."),
    ] = None,
    quality: Annotated[
        list[str] | None,
        typer.Option(help="Quality predictor: dnsmos[:FOLDER], distillmos, utmos[:FOLDER]; may be repeated."),
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Also measure the seconds and the memory of the first conversion.")
    ] = False,
    converted: Annotated[
        Path | None,
        typer.Option(
            help="A folder of conversions that another system made, ID.wav, which are measured instead.",
            parser=non_empty_path,
        ),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Convert each source as `vcvae live` does, as it arrives.")
    ] = False,
    vocoder: Vocoder = None,
    steps: Steps = None,
    refine: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_VOICE_STEPS,
            help="Learn each voice for any source, as `vcvae voice` does, and refine it to each source in so many "
            "steps. With --anonymization, refine the drawn voices.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Random seed of all that is drawn.")] = 0,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Convert, measure the conversions and the latents, and write a report with tables, pictures and audio."""
    if anonymization:
        if not corpus or cases:
            raise VcvaeError("--anonymization: is measured on speakers; give a prepared folder with --corpus alone.")
        ignored = {"--root": root, "--count": count, "--cost": cost, "--converted": converted, "--stream": stream}
        refuse_ignored({**ignored, "--steps": steps}, "with --anonymization")
    elif not (cases or corpus):
        raise VcvaeError("evaluate: give a table with --cases, or a prepared folder with --corpus, or both.")
    refuse_ignored({"--count": count} if cases else {"--root": root}, f"{'with' if cases else 'without'} --cases")
    if converted:
        ignored = {"--cost": cost, "--stream": stream, "--vocoder": vocoder, "--steps": steps, "--refine": refine}
        refuse_ignored(ignored, "with --converted: nothing is converted here")
    for option, is_given in (("--stream", stream), ("--refine", refine is not None)):
        if is_given:
            refuse_ignored({"--cost": cost}, f"with {option}: it is that of `vcvae convert`")
    steps = VOICE_STEPS if steps is None else steps
    from vcvae.convert.converter import Converter
    from vcvae.data.manifest import Manifest
    from vcvae.evaluate import draw_cases, evaluate_anonymization, load_measures, measure_cost, read_cases
    from vcvae.evaluate import evaluate as evaluate_conversions
    from vcvae.evaluate.cases import MAX_MINUTES

    with progress_bars() as add_bar:
        progress, part = add_bar("loading"), add_bar("")
        chosen = read_cases(cases, root=root) if cases else []
        converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
        utterances, transcripts = [], {}
        if corpus:
            manifest = Manifest(corpus, converter.mel_config.sample_rate)
            utterances = manifest.utterances(max_seconds=60 * MAX_MINUTES)
            transcripts = manifest.transcripts()
        measures, missing = load_measures(verifiers=verifier or [], recognizers=asr or [], qualities=quality or [])
        options = {"measures": measures, "missing": missing, "seed": seed, "force": force, "progress": progress}
        if anonymization:
            options |= {"transcripts": transcripts, "refine": refine or 0}
            report = evaluate_anonymization(converter, utterances, output, **options)
        else:
            count = COUNT if count is None else count
            chosen = chosen or draw_cases(utterances, count, transcripts=transcripts, seed=seed)
            measured_cost = None
            if cost:
                given = {"--model": model, "--vocoder": vocoder, "--device": device}
                words = [word for name, value in given.items() if value for word in (name, value)]
                measured_cost = measure_cost(converter, chosen[0], options=words, quick=not steps)
            report = evaluate_conversions(
                converter,
                chosen,
                output,
                cost=measured_cost,
                converted=converted,
                corpus=utterances,
                steps=steps,
                refine=refine,
                stream=stream,
                part=part,
                **options,
            )
    say((output / "report.md").read_text(encoding="utf-8"))
    say(f"{output / ('report.json' if anonymization else 'report.html')}: written")
    if report.failed:
        raise typer.Exit(1)


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Output folders of `vcvae evaluate`, one for each system.", parser=non_empty_path),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the table to a file.", parser=non_empty_path)
    ] = None,
    force: Force = False,
) -> None:
    """Print the reports of several systems side by side, with the natural recordings."""
    from vcvae.evaluate.comparison import compare

    if output:
        check_absent(output, force)
    table = compare(folders)
    say(table)
    if output:
        with replacing(output) as file:
            file.write(f"{table}\n".encode())
