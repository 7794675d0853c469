"""The command that gives the speakers of recordings voices that nobody has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.batch import Batch, Job, read_batch
from vcvae.cli.console import err, progress_bar, progress_bars
from vcvae.cli.options import (
    Device,
    Force,
    Model,
    Output,
    Refine,
    Vocoder,
    VocoderSeed,
    check_refine,
    non_empty_path,
    refuse_ignored,
    source_path,
    vocoder_seed,
)
from vcvae.errors import VcvaeError, check_absent, replacing
from vcvae.progress import Progress
from vcvae.tables import read_lines

TABLE = ("recording", "speaker", "seed", "output")  # columns of the table of who became what


class By(str, Enum):
    """What gets a voice of its own."""

    speaker = "speaker"
    utterance = "utterance"


def anonymize(
    source: Annotated[
        Path,
        typer.Argument(
            help="A recording, or - for standard input; or a folder: SPEAKER/…/recording.", parser=source_path
        ),
    ],
    output: Output = None,
    by: Annotated[By, typer.Option(help="What gets a voice of its own: each speaker, or each utterance.")] = By.speaker,
    speakers: Annotated[
        Path | None,
        typer.Option(
            help="A table of the speakers: recording (below SOURCE) and speaker, with a tab between. By default, the "
            "folders of SOURCE are the speakers, and a recording that is in none has a speaker of its own.",
            parser=non_empty_path,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="A file of random bytes: with the same key a speaker gets the same voice again. By default, a random "
            "key that is kept nowhere.",
            parser=non_empty_path,
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Write who became what: recording, speaker, seed, output.", parser=non_empty_path),
    ] = None,
    model: Model = None,
    vocoder: Vocoder = None,
    device: Device = "auto",
    seed: VocoderSeed = None,
    refine: Refine = 0,
    force: Force = False,
) -> None:
    """Convert the speakers of SOURCE to voices that nobody has; duration, words and intonation stay."""
    seed = vocoder_seed(seed, vocoder)
    if by is By.utterance and not table:
        refuse_ignored({"--speakers": speakers}, "with --by utterance and without --table")
    from vcvae.convert.anonymize import Anonymizer, read_key

    secret = read_key(key) if key else None
    with progress_bar("finding files"):
        batch = read_batch(source, output, "anonymous")
        check_refine(refine, (job.source for job in batch.jobs))
    jobs = list(batch.jobs)
    speaker_of = _read_speakers(speakers, source, jobs) if speakers else _find_speakers(source, jobs)
    name_of = speaker_of if by is By.speaker else {job.source: _below(source, job.source).as_posix() for job in jobs}
    here = source.resolve()
    folder = output or here.parent / f"{here.name}.anonymous"
    for option, path in (("--table", table), ("--key", key)):
        if path and not batch.single and path.resolve().is_relative_to(folder.resolve()):
            raise VcvaeError(f"{option} {path}: lies within {folder}, and would be passed on with it; move it.")
    with progress_bar("checking files") as progress:
        batch.check_output(force, progress)
    _check_resumption(batch, folder, by, secret, table)
    if table:
        check_absent(table, force or batch.finished > 0)
    recordings: dict[str, list[Path]] = {}
    for job in jobs:
        recordings.setdefault(name_of[job.source], []).append(job.source)
    from vcvae.convert.converter import Converter

    with progress_bars() as add_bar:
        progress, part = add_bar("loading"), add_bar("")
        converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
        anonymizer = Anonymizer(converter, key=secret, apart=by is By.speaker, refine_steps=refine)
        if by is By.speaker and batch.jobs:  # all, in one order: so each is drawn again when the command goes on
            for number, name in enumerate(sorted(recordings)):
                progress(number, len(recordings), "drawing voices")
                with suppress(VcvaeError):  # each recording of that speaker fails with it
                    anonymizer.voice(name, recordings[name])

        def anonymize_one(job: Job, progress: Progress) -> None:
            name = name_of[job.source]
            anonymizer.convert_file(job.source, name, recordings[name], job.output, force=force, progress=progress)

        failures = batch.run(anonymize_one, progress, part)
    if table:
        rows = [
            (_below(source, job.source), speaker_of[job.source], anonymizer.seeds.get(name_of[job.source]), job.output)
            for job in jobs
        ]
        with replacing(table) as file:
            file.write("".join("\t".join(map(str, row)) + "\n" for row in [TABLE, *rows]).encode())
        err.print(f"{table}: written; who has it knows the speakers", soft_wrap=True)
    batch.report(failures, "anonymized")


def _below(source: Path, recording: Path) -> Path:
    """The recording's path in the folder; of a single one, its name."""
    return recording.relative_to(source) if source.is_dir() else Path(recording.name)


def _find_speakers(source: Path, jobs: Sequence[Job]) -> dict[Path, str]:
    """The speaker of each recording: the first folder below SOURCE; one that is in none has a speaker of its own."""
    return {job.source: _below(source, job.source).parts[0] for job in jobs}


def _read_speakers(table: Path, source: Path, jobs: Sequence[Job]) -> dict[Path, str]:
    """The speaker of each recording, by a table.

    Raises:
        VcvaeError: a line that is wrong, or a recording that is in none.
    """
    names: dict[str, str] = {}
    for number, line in read_lines(table):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 2 or not all(fields):
            raise VcvaeError(f"{table}: line {number} is not a recording and its speaker, with a tab between.")
        names[Path(fields[0]).as_posix()] = fields[1]
    speaker_of = {}
    for job in jobs:
        path = _below(source, job.source)
        name = names.get(path.as_posix(), names.get(path.with_suffix("").as_posix()))
        if name is None:
            raise VcvaeError(f"{table}: no line for {path}; add its speaker.")
        speaker_of[job.source] = name
    return speaker_of


def _check_resumption(batch: Batch, folder: Path, by: By, key: bytes | None, table: Path | None) -> None:
    """Refuse to go on where some recordings are done, and their voices cannot be drawn again.

    Raises:
        VcvaeError: that is so.
    """
    if not (batch.finished and batch.jobs):
        return
    if by is By.speaker and key is None:
        raise VcvaeError(
            f"{folder}: {batch.finished} recordings are there already, in voices that only their key gives again; give "
            "--key, another output, or --force to make all anew."
        )
    if by is By.utterance and table:
        raise VcvaeError(
            f"--table {table}: {batch.finished} recordings are there already and their voices are not drawn again; "
            "leave out --table, or give --force to make all anew."
        )
