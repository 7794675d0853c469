"""What the command line does with folders, tables and failures: many files, one function, one report."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from vcvae.errors import VcvaeError, disk_errors

# Where there is no terminal, lines are not folded, so that they can be searched.
out, err = (
    Console(stderr=error, emoji=False, width=None if (sys.stderr if error else sys.stdout).isatty() else 1000)
    for error in (False, True)
)

Job = tuple[Path, tuple[Path, ...], Path]


def conversions(source: Path | None, targets: list[Path], output: Path | None, pairs: Path | None) -> list[Job]:
    """What to convert: (source, targets, output), in the order given."""
    if pairs:
        if source or targets or output:
            raise VcvaeError("--pairs: names sources, targets and outputs itself; give nothing beside it.")
        return _read_pairs(pairs)
    if not source:
        raise VcvaeError("convert: give a SOURCE, or a table with --pairs.")
    if not targets:
        raise VcvaeError("--target: missing; give a recording of the wanted voice.")
    results = destinations(source, output, f"to-{targets[0].resolve().stem}")
    return [(file, tuple(targets), result) for file, result in results]


def destinations(source: Path, output: Path | None, name: str) -> list[tuple[Path, Path]]:
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


def each(jobs: list[tuple], work: Callable[..., None], done: str, *, single: bool) -> None:
    """Do `work(*job)` for each job, whose last part is its output. A bad file in a folder does not end the others."""
    failed = []
    for job in track(jobs, done, shown=not single):
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
        show("failed", ("source", "why"), failed)
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


def recordings(target: Path) -> list[Path]:
    from vcvae import audio

    with disk_errors(target, "read"):
        return audio.find(target) if target.is_dir() else [target]


def _make_folder(folder: Path) -> None:
    with disk_errors(folder, "made"):
        folder.mkdir(parents=True, exist_ok=True)


def track(items, description: str, *, shown: bool = True):
    import rich.progress

    return rich.progress.track(items, description, console=err, disable=not (shown and err.is_terminal), transient=True)


def show(title: str, columns: tuple[str, ...], rows) -> None:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*map(str, row))
    err.print(table, markup=False)


def say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
