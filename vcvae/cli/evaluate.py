"""The command that measures a conversion model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.console import progress_bar, say
from vcvae.cli.options import Device, Force, Vocoder, model_name, non_empty_path
from vcvae.defaults import VOICE_STEPS
from vcvae.errors import VcvaeError


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
    count: Annotated[int, typer.Option(min=1, help="Number of conversions that are drawn from --corpus.")] = 24,
    verifier: Annotated[
        list[str] | None, typer.Option(help="Speaker verifier: resemblyzer or campplus; may be repeated.")
    ] = None,
    asr: Annotated[str | None, typer.Option(help="Recognizer, such as whisper:tiny.en or whisper:FOLDER.")] = None,
    quality: Annotated[
        list[str] | None, typer.Option(help="Quality predictor: dnsmos, dnsmos:FOLDER or distillmos; may be repeated.")
    ] = None,
    vocoder: Vocoder = None,
    steps: Annotated[int, typer.Option(min=0, help="Steps of fine-tuning on each target first.")] = VOICE_STEPS,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Random seed of all that is drawn.")] = 0,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Convert, measure the conversions and the latents, and write a report with tables, pictures and audio."""
    if not (cases or corpus):
        raise VcvaeError("evaluate: give a table with --cases, or a prepared folder with --corpus, or both.")
    from vcvae.convert.converter import Converter
    from vcvae.data.manifest import Manifest
    from vcvae.evaluate import draw_cases, load_measures, read_cases
    from vcvae.evaluate import evaluate as evaluate_converter

    with progress_bar("loading") as progress:
        chosen = read_cases(cases, root=root) if cases else []
        converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
        utterances = Manifest(corpus, converter.mel_config.sample_rate).utterances() if corpus else []
        measures, missing = load_measures(verifiers=verifier or [], asr=asr, qualities=quality or [])
        report = evaluate_converter(
            converter,
            chosen or draw_cases(utterances, count, seed=seed),
            output,
            measures=measures,
            missing=missing,
            corpus=utterances,
            steps=steps,
            seed=seed,
            force=force,
            progress=progress,
        )
    say((output / "report.md").read_text(encoding="utf-8"))
    say(f"{output / 'report.html'}: written")
    if report.failed:
        raise typer.Exit(1)
