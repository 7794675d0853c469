"""The commands that make a model and judge it: from a corpus to figures."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.batch import out, say, show, track
from vcvae.cli.options import Device, Force, Speaks, finite
from vcvae.defaults import ADAPT_STEPS, MINIMUM_SECONDS, VOICE_STEPS
from vcvae.errors import VcvaeError


def prepare(
    corpus: Annotated[
        str,
        typer.Argument(help="vctk, libritts, libritts-r, librispeech, cmu-arctic, aishell3, commonvoice or folder."),
    ],
    source: Annotated[Path, typer.Argument(help="Where the corpus lies; of folder: SOURCE/speaker/*.wav|flac|mp3|…")],
    destination: Annotated[Path, typer.Argument(help="Where the prepared audio and its manifests go.")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = max(1, (os.cpu_count() or 2) - 1),
    minimum: Annotated[
        float, typer.Option(min=0, callback=finite, help="Seconds; shorter recordings are left out.")
    ] = MINIMUM_SECONDS,
    dev: Annotated[
        int | None, typer.Option(min=0, help="Speakers for validation; a tenth of them, at most 64, by default.")
    ] = None,
    test: Annotated[int | None, typer.Option(min=0, help="Speakers for the end; as many by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of these speakers.")] = 0,
    parallel: Annotated[
        str | None,
        typer.Option(help="How names of speakers begin who say the same at the same time: their silences are kept."),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the corpus into SOURCE first.")] = False,
    shar: Annotated[bool, typer.Option("--shar", help="Also write shards that can be streamed from a URL.")] = False,
) -> None:
    """Prepare a corpus for training: mono FLAC at 22.05 kHz, trimmed, measured, listed, and split by speaker."""
    from vcvae.data.corpora import LeftOut
    from vcvae.data.prepare import REPORT, Preparation
    from vcvae.features.mel import MelConfig

    if download:
        from vcvae.data.download import download

        download(corpus, source)
    work = Preparation(
        corpus,
        source,
        destination,
        sample_rate=MelConfig().sample_rate,
        minimum_seconds=minimum,
        dev=dev,
        test=test,
        seed=seed,
        jobs=jobs,
        parallel=parallel,
    )
    left_out = [result for result in track(work, "preparing") if isinstance(result, LeftOut)]
    if left_out:
        show("left out", ("file", "why"), left_out[:20])
        say(f"{len(left_out)} files left out, listed in {destination / REPORT}")
    splits = ", ".join(f"{name} {len(speakers)}" for name, speakers in work.splits.items())
    say(f"{destination}: {len(work) - len(left_out)} utterances; speakers: {splits}")
    if shar:
        from vcvae.data.shar import Export

        for name, speakers in work.splits.items():
            if speakers:
                export = Export(destination / name, jobs=jobs)
                for _ in track(export, f"sharding {name}"):
                    pass
                say(f"{export.folder}: {len(export)} shard{'s' * (len(export) > 1)}")


def train(
    config: Annotated[Path, typer.Argument(help="A YAML file.")],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the file's, such as optimizer.clip=0.5.")
    ] = None,
) -> None:
    """Train what CONFIG describes. The same command again goes on from where the run stands."""
    from vcvae.config import override, read_yaml

    values = override(read_yaml(config), assignments or [])
    from vcvae.training.loop import train
    from vcvae.training.stopping import Stopped
    from vcvae.training.tasks import parse

    with suppress(Stopped):  # it has said so, and a launcher would take another exit code for a failure
        train(parse(values, where=str(config)), out)


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="Folder or Hugging Face repository; the model that ships by default.")
    ] = None,
    cases: Annotated[
        Path | None, typer.Option(help="A table of conversions: id, source, targets[, transcript, reference].")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="A prepared folder of unseen speakers; conversions are drawn from it.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for conversions and report.")] = Path(
        "evaluation"
    ),
    root: Annotated[Path | None, typer.Option(help="What paths in the table are relative to; else its folder.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Conversions that are drawn from --corpus.")] = 24,
    verifier: Annotated[list[str] | None, typer.Option(help="Of speakers: resemblyzer, campplus; may repeat.")] = None,
    asr: Annotated[str | None, typer.Option(help="A recogniser, such as whisper:tiny.en or whisper:FOLDER.")] = None,
    quality: Annotated[list[str] | None, typer.Option(help="dnsmos, dnsmos:FOLDER, distillmos; may repeat.")] = None,
    vocoder: Speaks = None,
    steps: Annotated[int, typer.Option(min=0, help="Of learning each target's voice first.")] = ADAPT_STEPS,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of all that is drawn.")] = 0,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Make conversions, measure them and what the latents tell, and write tables and a page to listen to."""
    if not (cases or corpus):
        raise VcvaeError("evaluate: give a table with --cases, or a prepared folder with --corpus, or both.")
    from vcvae.convert.converter import Converter
    from vcvae.data.manifest import Manifest
    from vcvae.evaluate import draw_cases, load_measures, read_cases
    from vcvae.evaluate import evaluate as measure

    table = read_cases(cases, root=root) if cases else None
    converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
    spoken = Manifest(corpus, converter.mel_config.sample_rate).utterances() if corpus else []
    chosen = table or draw_cases(spoken, count, seed=seed)
    measures, missing = load_measures(verifiers=verifier or [], asr=asr, qualities=quality or [])
    report = measure(
        converter,
        chosen,
        output,
        measures=measures,
        missing=missing,
        corpus=spoken,
        steps=steps,
        seed=seed,
        force=force,
        track=track,
    )
    say((output / "report.md").read_text(encoding="utf-8"))
    say(f"{output / 'report.html'}: written")
    if report.failed:
        raise typer.Exit(1)


def run(
    recipe: Annotated[Path, typer.Argument(help="The folder of a recipe, such as recipes/mini.")],
    first: Annotated[str | None, typer.Option("--from", help="The step to begin with, done or not.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last step to do.")] = None,
    source: Annotated[Path | None, typer.Option(help="Where the corpus lies, if not where the recipe says.")] = None,
    launch: Annotated[
        Path | None, typer.Option(help="An accelerate configuration; training steps are run by it.")
    ] = None,
) -> None:
    """Do all steps of a recipe, from the corpus to conversions; those that are done already are left out."""
    from vcvae.cli.recipe import run

    run(recipe, say, first=first, last=last, source=source, launch=launch)


def export(
    run: Annotated[Path, typer.Argument(help="The output folder of a training run.")],
    destination: Annotated[Path, typer.Argument(help="A folder for the weights and their configuration.")],
    best: Annotated[bool, typer.Option("--best", help="The checkpoint that validated best, not the last.")] = False,
    small: Annotated[bool, typer.Option("--small", help="Weights in a byte each, not float16.")] = False,
    force: Force = False,
) -> None:
    """Write a run's averaged weights as a model: float16 safetensors, config.json and a model card."""
    from vcvae.training.export import export

    step = export(run, destination, best=best, small=small, force=force)
    say(f"{destination}: written, as of step {step}")


def adapt(
    speaker: Annotated[Path, typer.Option(help="A folder of one speaker's recordings: 1 to 30 minutes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the new model.")],
    model: Annotated[
        str | None, typer.Argument(help="Folder or Hugging Face repository; the model that ships by default.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of learning the voice.")] = VOICE_STEPS,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of what is learned when, and of which utterances judge.")] = 0,
    force: Force = False,
) -> None:
    """Teach a converter one voice: a model that converts to it without --target, in minutes on a CPU."""
    from vcvae.convert.voice_file import make

    found = make(model, speaker, output, steps=steps, seed=seed, device=device, force=force)
    say(f"{output}: learned from {found.seconds / 60:.1f} minutes of speech in {found.utterances} pieces")
    if found.held_out:
        say(f"{found.held_out} of them held out and rebuilt: mel L1 {found.before:.3f} before, {found.after:.3f} after")
    else:
        say("too few pieces to hold one out: how well it was learned is not known")


def listener(
    data: Annotated[Path, typer.Argument(help="A prepared folder: speech by many speakers.")],
    destination: Annotated[Path, typer.Argument(help="A folder for the weights and their configuration.")],
    teacher: Annotated[
        str | None, typer.Option(help="Folder or repository of an ECAPA-TDNN; SpeechBrain's, of VoxCeleb, by default.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Recordings of DATA by which weights are rounded.")] = 160,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    force: Force = False,
) -> None:
    """Make a listener, which says how near conversions are to their target, of a network that tells speakers apart."""
    from vcvae.training.listener import save_listener

    options = {"teacher": teacher, "count": count, "seed": seed, "force": force, "track": track}
    likeness = save_listener(data, destination, **options)
    say(f"{destination}: written; of other recordings, its cosine with what the whole network hears is {likeness:.2f}")


def reader(
    destination: Annotated[Path, typer.Argument(help="A folder for the weights and their configuration.")],
    recognizer: Annotated[
        str | None, typer.Option(help="Folder or repository of a Moonshine; Useful Sensors', the smallest, by default.")
    ] = None,
    force: Force = False,
) -> None:
    """Make a reader, which says whether conversions say what their source says, of a network that recognizes speech."""
    from vcvae.models.frozen.content import ContentNet
    from vcvae.models.hub import check_vacant

    check_vacant(destination, force)
    ContentNet.of(recognizer).release(destination, small=True)
    say(f"{destination}: written")
