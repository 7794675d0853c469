"""Options that several commands share, and checks of their values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from vcvae.defaults import MAX_PITCH_SHIFT, MAX_VOICE_STEPS, REFINE_STEPS, SEEDED_VOCODER, STDIN, STDOUT, VOICE_STEPS
from vcvae.errors import VcvaeError, check_followable

ON_CPU = ("auto", "cpu")  # devices that are no other than the CPU, for what is computed there alone


def finite(value: float) -> float:
    """A number that is neither infinite nor NaN."""
    if not math.isfinite(value):
        raise typer.BadParameter("give a finite number.")
    return value


def non_empty_path(text: str) -> Path:
    """A file or a folder, or where one can be made.

    Raises:
        VcvaeError: it is something else, such as a pipe or a device; or - for standard input or output, which
            `source_path` and `output_path` take.
    """
    if text == "-":
        raise VcvaeError("-: neither standard input nor output is taken here; give the path of a file.")
    check_followable(text)
    return Path(text)


def model_name(text: str) -> str:
    """A folder, or a Hugging Face repository."""
    non_empty_path(text)
    return text


def source_path(text: str) -> Path:
    """Recordings: one, or a folder of them; - is one from standard input."""
    return STDIN if text in ("-", str(STDIN)) else non_empty_path(text)


def output_path(text: str) -> Path:
    """Where a recording is written; - is standard output."""
    return STDOUT if text in ("-", str(STDOUT)) else non_empty_path(text)


def check_refine(steps: int, sources: Iterable[Path]) -> None:
    """Refuse `--refine` for standard input.

    Raises:
        VcvaeError: it is one of the sources, and there are steps.
    """
    if steps and STDIN in sources:
        raise VcvaeError("--refine: a voice is refined to a source before it is converted; give a file, not -.")


def refuse_ignored(options: Mapping[str, object], where: str) -> None:
    """Refuse options that would be ignored; each name has its value, which is None, False or empty where it is absent.

    Raises:
        VcvaeError: one of them is given; it says `where` it has no effect, such as `with --quick`.
    """
    given = [
        name for name, value in options.items() if value is not None and value is not False and value not in ("", [])
    ]
    if given:
        verb, pronoun = ("has", "it") if len(given) == 1 else ("have", "them")
        raise VcvaeError(f"{', '.join(given)}: {verb} no effect {where}; leave {pronoun} out.")


def refuse_others(context: typer.Context, name: str) -> None:
    """Refuse whatever else a command is given beside the option of this name, which needs nothing.

    Raises:
        VcvaeError: an argument or another option is given.
    """
    given = {}
    for parameter in context.command.params:
        is_option = parameter.param_type_name == "option"
        other = max(parameter.opts, key=len) if is_option else parameter.name.upper()
        given[other] = other != name and context.get_parameter_source(parameter.name).name == "COMMANDLINE"
    refuse_ignored(given, f"with {name}")


def vocoder_seed(seed: int | None, vocoder: str | None) -> int:
    """The seed of a vocoder's initial phases.

    Raises:
        VcvaeError: it is given for a vocoder that draws none.
    """
    if vocoder != SEEDED_VOCODER:
        refuse_ignored({"--seed": seed}, f"without --vocoder {SEEDED_VOCODER}: no other vocoder draws anything")
    return 0 if seed is None else seed


Model = Annotated[
    str | None,
    typer.Option(help="Folder or Hugging Face repository; by default, the released model.", parser=model_name),
]
Vocoder = Annotated[
    str | None,
    typer.Option(
        "--vocoder",
        help="source-filter (the released one), griffin-lim, or source-filter:, vocos:, bigvgan: with a folder or "
        "repository, or hifigan:PATH.",
    ),
]
Replay = Annotated[
    Path | None,
    typer.Option(
        help="A recording or a folder of them, by speakers other than the target, that fine-tuning converts "
        "meanwhile. By default, `convert` takes its sources, and `voice` sentences that come with the package.",
        parser=non_empty_path,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
VocoderSeed = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=2**63 - 1, help="Random seed of Griffin-Lim's initial phases; by default, 0."),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=MAX_VOICE_STEPS,
        help="Steps of fine-tuning to a target: with more, its voice is closer, and takes longer to learn. By default, "
        f"{VOICE_STEPS}; with 0, the voice of one pass.",
    ),
]
Refine = Annotated[
    int,
    typer.Option(
        min=0,
        max=MAX_VOICE_STEPS,
        help=f"Steps of fine-tuning each voice to each source before it is converted, such as {REFINE_STEPS}: more of "
        "its words are kept, and it takes some seconds.",
    ),
]
PitchShift = Annotated[
    float,
    typer.Option(
        min=-MAX_PITCH_SHIFT,
        max=MAX_PITCH_SHIFT,
        callback=finite,
        help="Semitones, added to the target's mean F0.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="WAV or FLAC file, or - for standard output; a folder where SOURCE is one; by default, beside SOURCE.",
        parser=output_path,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")]
