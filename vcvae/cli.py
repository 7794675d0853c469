"""The command line. It parses, calls, and reports; heavy imports wait until a command needs them."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from vcvae.errors import VcvaeError, disk_errors

app = typer.Typer(
    help="Voice conversion: change who speaks in a recording and keep what is said.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Where there is no terminal, lines are not folded, so that they can be searched.
out, err = (
    Console(stderr=error, emoji=False, width=None if (sys.stderr if error else sys.stdout).isatty() else 1000)
    for error in (False, True)
)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise typer.BadParameter("give a finite number.")
    return value


def _path(text: str) -> Path:
    if not text:
        raise typer.BadParameter("an empty path; is a variable not set?")
    return Path(text)


Model = Annotated[str | None, typer.Option(help="Folder or Hugging Face repository; the model that ships by default.")]
Speaks = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        help="neural (which ships), griffin-lim, or neural:, vocos:, bigvgan: with a SOURCE, or hifigan:PATH.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the phases that Griffin-Lim starts from.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")]


@app.command()
def convert(
    source: Annotated[Path | None, typer.Argument(help="A recording, or a folder of them.", parser=_path)] = None,
    target: Annotated[
        list[Path] | None,
        typer.Option(help="A recording of the wanted voice, or a folder of them; give several to average them."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="WAV or FLAC; a folder where the source is one.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A table: source, target[;target…], output, with tabs between.")
    ] = None,
    model: Model = None,
    vocoder: Speaks = None,
    device: Device = "auto",
    seed: Seed = 0,
    pitch_shift: Annotated[
        float, typer.Option(callback=_finite, help="Semitones, on top of the move to the target's register.")
    ] = 0.0,
    force: Force = False,
) -> None:
    """Say what SOURCE says in the voice of --target."""
    if _is_for_a_pair(model):
        return _convert_pair(source, target, output, pairs, model, vocoder, seed, pitch_shift, force)
    jobs = _jobs(source, target or [], output, pairs)
    single = len(jobs) == 1 and not (pairs or source.is_dir())
    from vcvae import audio
    from vcvae.convert import Converter

    if single:
        audio.check_output(jobs[0][2], force)
    converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
    voices = {}

    def convert_one(source: Path, targets: tuple[Path, ...], output: Path) -> None:
        nonlocal voices
        if targets not in voices:
            voices = {targets: converter.voice([f for t in targets for f in _recordings(t)])}
        converter.convert_file(source, voices[targets], output, pitch_shift=pitch_shift, force=force)

    _each(jobs, convert_one, "converted", single=single)


@app.command()
def vocode(
    source: Annotated[Path, typer.Argument(help="A recording, a mel (.npy), or a folder of recordings.", parser=_path)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="WAV or FLAC; a folder where the source is one.")
    ] = None,
    vocoder: Speaks = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Take recordings apart into mels and put them together again: what the vocoder alone does to a voice."""
    jobs, single = _outputs(source, output, "copy"), not source.is_dir()
    from vcvae import audio
    from vcvae.convert import find_device
    from vcvae.vocode import vocode
    from vcvae.vocoder import load_vocoder

    if single:
        audio.check_output(jobs[0][1], force)
    speaker = load_vocoder(vocoder, seed=seed).to(find_device(device)).eval()

    def copy_one(source: Path, output: Path) -> None:
        audio.check_output(output, force)
        audio.write(output, vocode(source, speaker), speaker.mel_config.sample_rate, force=force)

    _each(jobs, copy_one, "copied", single=single)


@app.command()
def encode(
    source: Annotated[Path, typer.Argument(help="A recording.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .npy file.")],
    speaker: Annotated[bool, typer.Option("--speaker", help="The speaker latent, (speaker_latent,).")] = False,
    content: Annotated[bool, typer.Option("--content", help="The content latent's mean, (latent, frames).")] = False,
    mel: Annotated[bool, typer.Option("--mel", help="The ln-mel that the encoders hear, (n_mels, frames).")] = False,
    model: Model = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Write a recording's speaker latent, content latent or mel, float32."""
    if speaker + content + mel != 1:
        raise VcvaeError("encode: give one of --speaker, --content and --mel.")
    if output.suffix != ".npy":
        raise VcvaeError(f"{output}: an array is written as .npy; end the name so.")
    if output.exists() and not force:
        raise VcvaeError(f"{output}: exists already; give --force to overwrite it.")
    import numpy as np

    from vcvae.convert import Encoder

    encoder = Encoder.from_pretrained(model, device=device)
    array = (encoder.speaker if speaker else encoder.content if content else encoder.mel)(source)
    unfinished = output.with_name(f".{output.name}.unfinished")
    with disk_errors(output):
        try:
            with open(unfinished, "wb") as file:
                np.save(file, array)
            os.replace(unfinished, output)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
    say(f"{output}: float32 {array.shape}")


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="A folder of speakers: SOURCE/speaker/*.wav|flac|mp3|…")],
    destination: Annotated[Path, typer.Argument(help="Where the prepared audio and its manifest go.")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = max(1, (os.cpu_count() or 2) - 1),
    minimum: Annotated[
        float, typer.Option(min=0, callback=_finite, help="Seconds; shorter recordings are left out.")
    ] = 1.0,
) -> None:
    """Prepare a folder of speakers for training: mono FLAC at 22.05 kHz, trimmed, measured and listed."""
    from vcvae.data.prepare import LeftOut, prepare
    from vcvae.mel import MelConfig

    results = list(
        _track(
            prepare(source, destination, sample_rate=MelConfig().sample_rate, minimum_seconds=minimum, jobs=jobs),
            "preparing",
        )
    )
    left_out = [(result.path, result.reason) for result in results if isinstance(result, LeftOut)]
    if left_out:
        _show("left out", ("file", "why"), left_out)
    say(f"{destination}: {len(results) - len(left_out)} utterances")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file.")],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the file's, such as optimizer.clip=0.5.")
    ] = None,
) -> None:
    """Train what CONFIG describes. The same command again goes on from where the run stands."""
    from vcvae.config import override, read_yaml

    values = override(read_yaml(config), assignments or [])
    from vcvae.training.loop import parse, train

    train(parse(values, where=str(config)), out)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The output folder of a training run.")],
    destination: Annotated[Path, typer.Argument(help="A folder for the weights and their configuration.")],
    force: Force = False,
) -> None:
    """Write a run's averaged weights as a model: float16 safetensors and config.json."""
    from vcvae.training.loop import load_run

    if (destination / "config.json").exists() and not force:
        raise VcvaeError(f"{destination}: holds a model already; give --force to overwrite it.")
    _, task = load_run(run)
    with disk_errors(destination):
        task.released.half().save_pretrained(destination)
    say(f"{destination}: written")


@app.command()
def env() -> None:
    """Print versions, devices and threads: what a bug report needs."""
    from vcvae.environment import environment

    for name, value in environment().items():
        say(f"{name}: {value}")


def main() -> None:
    """The `vcvae` command: errors that a person can mend are one sentence and exit code 2."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("vcvae: %(message)s"))
    logging.getLogger("vcvae").addHandler(handler)
    try:
        app()
    except VcvaeError as error:
        print(f"vcvae: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a name that is too long, say
        print(f"vcvae: {error.filename or 'the disk'}: {error.strerror or error}.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _is_for_a_pair(model: str | None) -> bool:
    """Whether the model knows its target: one that was fitted to two speakers."""
    if model is None:
        return False
    from vcvae.models.pretrained import describe

    return describe(model)[0] == "GMMConversion"


def _convert_pair(source, target, output, pairs, model, vocoder, seed, pitch_shift, force) -> None:
    if target or pairs or not source:
        raise VcvaeError(f"--model {model}: knows its one target; give a SOURCE, and neither --target nor --pairs.")
    jobs, single = _outputs(source, output, f"to-{Path(model).name}"), not source.is_dir()
    from vcvae.models.gmm_conversion import GMMConversion
    from vcvae.pair import PairConverter
    from vcvae.vocoder import load_vocoder

    loaded = GMMConversion.from_pretrained(model)
    converter = PairConverter(loaded, load_vocoder(vocoder, loaded.config.mel, seed=seed))

    def convert_one(source: Path, output: Path) -> None:
        converter.convert_file(source, output, pitch_shift=pitch_shift, force=force)

    _each(jobs, convert_one, "converted", single=single)


Job = tuple[Path, tuple[Path, ...], Path]


def _jobs(source: Path | None, targets: list[Path], output: Path | None, pairs: Path | None) -> list[Job]:
    """What to convert: (source, targets, output), in the order given."""
    if pairs:
        if source or targets or output:
            raise VcvaeError("--pairs: names sources, targets and outputs itself; give nothing beside it.")
        return _read_pairs(pairs)
    if not source:
        raise VcvaeError("convert: give a SOURCE, or a table with --pairs.")
    if not targets:
        raise VcvaeError("--target: missing; give a recording of the wanted voice.")
    outputs = _outputs(source, output, f"to-{targets[0].resolve().stem}")
    return [(file, tuple(targets), result) for file, result in outputs]


def _outputs(source: Path, output: Path | None, name: str) -> list[tuple[Path, Path]]:
    """Each recording of `source`, and where its result goes; `name` marks a result whose place is not given."""
    if not source.is_dir():
        return [(source, output or source.with_name(f"{source.stem}.{name}.wav"))]
    from vcvae import audio

    here = source.resolve()
    folder = output or here.with_name(f"{here.name}.{name}")
    if folder.is_file():
        raise VcvaeError(f"{folder}: is a file; the source is a folder, so give a folder.")
    if folder.resolve().is_relative_to(here):
        raise VcvaeError(f"{folder}: lies within {source}, and would be a source the next time; choose another place.")
    files = audio.find(source)
    stems = Counter(file.with_suffix("") for file in files)
    outputs = []
    for file in files:
        # a.wav and a.flac beside each other must not become one a.wav.
        result = f"{file.stem if stems[file.with_suffix('')] == 1 else file.name}.wav"
        outputs.append((file, folder / file.relative_to(source).with_name(result)))
    return outputs


def _each(jobs: list[tuple], work: Callable[..., None], done: str, *, single: bool) -> None:
    """Do `work(*job)` for each job, whose last part is its output. A bad file in a folder does not end the others."""
    failed = []
    for job in _track(jobs, done, shown=not single):
        try:
            if not single:
                _make_folder(job[-1].parent)
            work(*job)
        except VcvaeError as error:
            if single:
                raise
            failed.append((job[0], error))
    if single:
        say(str(jobs[0][-1]))
        return
    say(f"{len(jobs) - len(failed)} of {len(jobs)} {done}")
    if failed:
        _show("failed", ("source", "why"), failed)
        raise typer.Exit(1)


def _read_pairs(path: Path) -> list[Job]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VcvaeError(f"{path}: cannot be read as a table ({error}).") from None
    jobs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 3 or not all(fields):
            raise VcvaeError(f"{path}: line {number} is not source, target[;target…] and output with tabs between.")
        source, targets, output = fields
        jobs.append((Path(source), tuple(Path(t) for t in targets.split(";") if t), Path(output)))
    if not jobs:
        raise VcvaeError(f"{path}: holds no lines; each is source, target[;target…] and output with tabs between.")
    return jobs


def _recordings(target: Path) -> list[Path]:
    from vcvae import audio

    with disk_errors(target, "read"):
        return audio.find(target) if target.is_dir() else [target]


def _make_folder(folder: Path) -> None:
    with disk_errors(folder, "made"):
        folder.mkdir(parents=True, exist_ok=True)


def _track(items, description: str, *, shown: bool = True):
    from rich.progress import track

    return track(items, description, console=err, disable=not (shown and err.is_terminal), transient=True)


def _show(title: str, columns: tuple[str, ...], rows) -> None:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*map(str, row))
    err.print(table, markup=False)


def say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
