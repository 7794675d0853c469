"""Many files, one function, one report: what the command line does with folders, tables of pairs and failures."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vcvae.cli.console import MAX_LISTED, err, say, say_written, show_table
from vcvae.defaults import STDIN, STDOUT, VOICE_SUFFIX
from vcvae.errors import VcvaeError, check_exists, check_file, check_folder, disk_errors, remove_unfinished
from vcvae.progress import no_progress
from vcvae.tables import read_lines

if TYPE_CHECKING:
    from vcvae.cli.processes import Processes
    from vcvae.progress import Progress

CHECKED_AT_ONCE = 100  # files, before the next report
LONG_RECORDING = 60  # seconds, from which one of several recordings has a bar of its own
PAIR = "source, target[;target…] and output with tabs between"


@dataclass(frozen=True)
class Job:
    """One file to make: from `source`, in `output`, and of a conversion, in the voice of `targets`."""

    source: Path
    output: Path
    targets: tuple[Path, ...] = ()


@dataclass
class Failures:
    """How many files failed, and which and why, of the first of them."""

    count: int = 0
    first: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: object, why: object) -> None:
        """Count one more; `what` failed, a file or a line, and why."""
        self.count += 1
        if self.count <= MAX_LISTED:
            self.first.append((str(what), str(why).removeprefix(f"{what}: ")))

    def find_readable(self, path: Path) -> Iterator[Path]:
        """The recording, or the recordings of a folder that can be opened, one by one; the others are added here.

        Raises:
            VcvaeError: none can.
        """
        from vcvae import audio

        return audio.find_readable(path, self.add)

    @classmethod
    def join(cls, parts: Sequence[Failures]) -> Failures:
        """Those of several processes."""
        return cls(sum(part.count for part in parts), [entry for part in parts for entry in part.first][:MAX_LISTED])

    def show(self, title: str, columns: tuple[str, str]) -> None:
        """Print the first, and how many more there are; nothing where there is none."""
        if not self.count:
            return
        show_table(title, columns, self.first)
        if self.count > len(self.first):
            err.print(f"and {self.count - len(self.first):,} more")


@dataclass
class Batch:
    """Files to make; a `single` one that was named by itself fails the command, one of several is reported."""

    jobs: list[Job]
    single: bool
    failures: Failures = field(default_factory=Failures)
    left_out: Failures = field(default_factory=Failures)  # of the recordings of targets

    def __post_init__(self) -> None:
        self.total = len(self.jobs)
        self.finished = 0

    def check_output(self, force: bool, progress: Progress = no_progress) -> None:
        """Before anything is loaded, set aside the jobs whose source, target or output cannot be: they have failed.

        So are those of several whose output is there already, without `force`: they are done.

        Raises:
            VcvaeError: the single job is one of them.
        """
        usable = []
        for number, job in enumerate(self.jobs):
            if number % CHECKED_AT_ONCE == 0:
                progress(number, len(self.jobs), "checking files")
            try:
                if not (self.single or force) and job.output.is_file():
                    self.finished += 1
                    continue
                self._check(job, force)
                usable.append(job)
            except VcvaeError as error:
                if self.single:
                    raise
                self.failures.add(job.source, error)
        self.jobs = usable

    def _check(self, job: Job, force: bool) -> None:
        from vcvae import audio

        if STDIN in (job.source, *job.targets):
            audio.check_input()
        if job.source != STDIN:
            check_file(job.source, advice="give a recording")
        for target in job.targets:
            if target != STDIN:
                check_exists(target)
        if self.single or job.output.parent.is_dir():
            audio.check_output(job.output, force)
        else:
            check_folder(job.output.parent)

    def share(self, processes: Processes, *, learn: bool) -> None:
        """Keep the jobs that are this process's, those to one target in a row.

        Where voices have to be learned (`learn`), all jobs to a target are one process's; else they are shared evenly.
        """
        groups: dict[object, list[Job]] = {}
        for number, job in enumerate(self.jobs):
            is_learned = learn and not any(target.suffix.lower() == VOICE_SUFFIX for target in job.targets)
            groups.setdefault((job.targets, 0 if is_learned else number % processes.count), []).append(job)
        self.jobs = processes.share(list(groups.values()))
        if not processes.is_first:
            self.failures = Failures()  # so far, the first process has them

    def run(self, work: Callable[[Job, Progress], None], progress: Progress, part: Progress = no_progress) -> Failures:
        """Do `work` for each job → all that failed, and why; the others are done.

        Args:
            work: makes the job's file, and reports how far it is.
            progress: called with the number of the job; for a single one, by `work`.
            part: called by `work` of one of several jobs, where it is a long one.

        Raises:
            VcvaeError: the single job failed.
        """
        if self.single:
            for job in self.jobs:  # none, where another process does it
                work(job, progress)
            return self.failures

        def report_long(done: int, total: int | None, description: str) -> None:
            if total is None or total >= LONG_RECORDING:
                part(done, total, description)

        for folder in {job.output.parent for job in self.jobs}:
            remove_unfinished(folder)
        for number, job in enumerate(self.jobs):
            progress(number, len(self.jobs), job.source.name)
            try:
                with disk_errors(job.output.parent, "made"):
                    job.output.parent.mkdir(parents=True, exist_ok=True)
                work(job, report_long)
            except VcvaeError as error:
                self.failures.add(job.source, error)
            part(0, 0, "")  # no bar
        return self.failures

    def report(self, failures: Failures, done: str) -> None:
        """Print what `run` made: the one output, or how many are `done` and which are not; and what was left out.

        Raises:
            typer.Exit: some failed, or were left out.
        """
        if self.single:
            say_written(self.jobs[0].output)
        else:
            before = f", {self.finished} of them before; --force makes those again" if self.finished else ""
            say(f"{self.total - failures.count} of {self.total} {done}{before}")
        failures.show("failed", ("source", "why"))
        self.left_out.show("left out", ("recording of the target", "why"))
        if failures.count or self.left_out.count:
            raise typer.Exit(1)


def name_of(recordings: Path) -> str:
    """Of a recording or a folder, without its ending, however the path leads there; of standard input, stdin."""
    return (recordings if recordings == STDIN else recordings.resolve()).stem


def read_batch(source: Path, output: Path | None, suffix: str, targets: list[Path] | None = None) -> Batch:
    """A recording or each recording of a folder, and where its result goes.

    Args:
        suffix: marks a result whose place is not given: `a.suffix.wav` beside `a.wav`, `folder.suffix` beside `folder`;
            that of standard input goes to standard output.

    Raises:
        VcvaeError: a folder without recordings, or an output that cannot be theirs.
    """
    targets = tuple(targets or ())
    if source == STDIN:
        return _single(Job(source, output or STDOUT, targets))
    if not source.is_dir():
        return _single(Job(source, output or source.with_name(f"{source.stem}.{suffix}.wav"), targets))
    from vcvae import audio

    here = source.resolve()
    folder = output or here.parent / f"{here.name}.{suffix}"
    if folder == STDOUT or folder.is_file():
        raise VcvaeError(f"{folder}: is a file; the source is a folder, so give a folder.")
    if folder.resolve().is_relative_to(here):
        raise VcvaeError(f"{folder}: lies within {source}, and would be a source the next time; choose another place.")
    check_folder(folder)
    files = audio.find(source)
    stems = Counter(file.with_suffix("") for file in files)
    jobs = []
    for file in files:
        # a.wav and a.flac beside each other must not become one a.wav.
        name = f"{file.stem if stems[file.with_suffix('')] == 1 else file.name}.wav"
        jobs.append(Job(file, folder / file.relative_to(source).with_name(name), targets))
    return Batch(jobs, single=False)


def _single(job: Job) -> Batch:
    for _, fault in _overwritten([job]):
        raise VcvaeError(f"{job.output}: {fault}; give another output.")
    return Batch([job], single=True)


def read_pairs(path: Path) -> Batch:
    """The conversions that a table lists, one a line: source, target[;target…], output.

    Raises:
        VcvaeError: it cannot be read, or holds no lines; or lines that are wrong, of which the first are printed: in
            their form, or with an output that is no audio file, that of another line, or what a line reads.
    """
    from vcvae.audio import OUTPUT_FORMATS

    jobs, numbers, wrong = [], [], Failures()
    for number, line in read_lines(path):
        fields = [field.strip() for field in line.split("\t")]
        targets = tuple(Path(target) for target in fields[1].split(";") if target.strip()) if len(fields) == 3 else ()
        if not (targets and all(fields)):
            wrong.add(f"line {number}", f"is not {PAIR}")
        elif os.path.splitext(fields[2])[1].lower() not in OUTPUT_FORMATS:
            wrong.add(f"line {number}", f"has an output that does not end in {' or '.join(OUTPUT_FORMATS)}")
        else:
            jobs.append(Job(Path(fields[0]), Path(fields[2]), targets))
            numbers.append(number)
    for index, fault in _overwritten(jobs, [f" of line {number}" for number in numbers]):
        wrong.add(f"line {numbers[index]}", f"has an output that {fault}")
    if wrong.count == 1:
        raise VcvaeError(f"{path}: {' '.join(wrong.first[0])}.")
    if wrong.count:
        wrong.show(str(path), ("line", "why"))
        raise VcvaeError(f"{path}: {wrong.count:,} lines are wrong, such as {wrong.first[0][0]}; correct them.")
    if not jobs:
        raise VcvaeError(f"{path}: holds no lines; each is {PAIR}.")
    return Batch(jobs, single=False)


def _overwritten(jobs: Sequence[Job], names: Sequence[str] = ("",)) -> Iterator[tuple[int, str]]:
    """The indices of jobs whose output is that of an earlier one, or what a job reads, and which; `names` of jobs."""
    folder = functools.cache(os.path.realpath)

    def place(path: Path) -> str:
        return os.path.join(folder(os.path.dirname(path)), path.name)

    inputs: dict[str, str] = {}
    for job, name in zip(jobs, names, strict=True):
        for kind, path in (("source", job.source), *(("target", target) for target in job.targets)):
            if "\0" not in str(path):
                inputs.setdefault(place(path), f"is the {kind}{name}")
                if os.path.islink(path):
                    inputs.setdefault(os.path.realpath(path), f"is the {kind}{name}")
    outputs: dict[str, str] = {}
    for index, (job, name) in enumerate(zip(jobs, names, strict=True)):
        if "\0" not in str(job.output):
            written = place(job.output)
            if fault := inputs.get(written) or outputs.get(written):
                yield index, fault
            outputs.setdefault(written, f"is the output{name}")
