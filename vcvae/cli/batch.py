"""Many files, one function, one report: what the command line does with folders, tables of pairs and failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vcvae.cli.console import say, show_table
from vcvae.errors import VcvaeError, disk_errors

if TYPE_CHECKING:
    from vcvae.progress import Progress

PAIR = "source, target[;target…] and output with tabs between"


@dataclass(frozen=True)
class Job:
    """One file to make: from `source`, in `output`, and of a conversion, in the voice of `targets`."""

    source: Path
    output: Path
    targets: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Files to make; a `single` one that was named by itself fails the command, one of several is reported."""

    jobs: list[Job]
    single: bool

    def check_output(self, force: bool) -> None:
        """Refuse the output of a single file before anything is loaded.

        Raises:
            VcvaeError: it exists, or cannot be written.
        """
        from vcvae import audio

        if self.single:
            audio.check_output(self.jobs[0].output, force)

    def run(self, work: Callable[[Job], None], progress: Progress) -> list[tuple[Path, VcvaeError]]:
        """Do `work` for each job → the sources of those that failed, and why; the others are done.

        Raises:
            VcvaeError: the single job failed.
        """
        if self.single:
            work(self.jobs[0])
            return []
        failures = []
        for number, job in enumerate(self.jobs):
            progress(number, len(self.jobs), job.source.name)
            try:
                with disk_errors(job.output.parent, "made"):
                    job.output.parent.mkdir(parents=True, exist_ok=True)
                work(job)
            except VcvaeError as error:
                failures.append((job.source, error))
        return failures

    def report(self, failures: list[tuple[Path, VcvaeError]], done: str) -> None:
        """Print what `run` made: the one output, or how many are `done` and which are not.

        Raises:
            typer.Exit: some failed.
        """
        if self.single:
            say(str(self.jobs[0].output))
            return
        say(f"{len(self.jobs) - len(failures)} of {len(self.jobs)} {done}")
        if failures:
            show_table("failed", ("source", "why"), failures)
            raise typer.Exit(1)


def read_batch(source: Path, output: Path | None, suffix: str, targets: list[Path] | None = None) -> Batch:
    """A recording or each recording of a folder, and where its result goes.

    Args:
        suffix: marks a result whose place is not given: `a.suffix.wav` beside `a.wav`, `folder.suffix` beside `folder`.

    Raises:
        VcvaeError: a folder without recordings, or an output that cannot be theirs.
    """
    targets = tuple(targets or ())
    if not source.is_dir():
        return Batch([Job(source, output or source.with_name(f"{source.stem}.{suffix}.wav"), targets)], single=True)
    from vcvae import audio

    here = source.resolve()
    folder = output or here.with_name(f"{here.name}.{suffix}")
    if folder.is_file():
        raise VcvaeError(f"{folder}: is a file; the source is a folder, so give a folder.")
    if folder.resolve().is_relative_to(here):
        raise VcvaeError(f"{folder}: lies within {source}, and would be a source the next time; choose another place.")
    files = audio.find(source)
    stems = Counter(file.with_suffix("") for file in files)
    jobs = []
    for file in files:
        # a.wav and a.flac beside each other must not become one a.wav.
        name = f"{file.stem if stems[file.with_suffix('')] == 1 else file.name}.wav"
        jobs.append(Job(file, folder / file.relative_to(source).with_name(name), targets))
    return Batch(jobs, single=False)


def read_pairs(path: Path) -> Batch:
    """The conversions that a table lists, one a line: source, target[;target…], output.

    Raises:
        VcvaeError: it cannot be read, holds no lines, or one that is wrong.
    """
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
            raise VcvaeError(f"{path}: line {number} is not {PAIR}.")
        source, targets, output = fields
        jobs.append(Job(Path(source), Path(output), tuple(Path(target) for target in targets.split(";") if target)))
    if not jobs:
        raise VcvaeError(f"{path}: holds no lines; each is {PAIR}.")
    return Batch(jobs, single=False)
