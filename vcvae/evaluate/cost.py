"""What a conversion costs: by the command, which begins from disk, and within a process that has converted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vcvae import audio, pretrained
from vcvae.convert.converter import Converter
from vcvae.environment import following_this_process
from vcvae.errors import VcvaeError, temporary_folder
from vcvae.evaluate.cases import Case, check_length

LABELS = {
    "megabytes": "weights and sentences that ship, MB",
    "seconds": "one `vcvae convert`, seconds of wall time",
    "peak_megabytes": "… its peak memory, MB",
    "real_time_factor": "conversion in a process that has converted before, real-time factor",
    "threads": "threads",
}


@dataclass(frozen=True)
class Cost:
    """See `LABELS`. A megabyte is 10⁶ bytes; the real-time factor is seconds per second of the source."""

    megabytes: float
    seconds: float
    peak_megabytes: float
    real_time_factor: float
    threads: int

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of each figure."""
        return [(LABELS[name], f"{value:.4g}") for name, value in asdict(self).items()]


def measure_cost(converter: Converter, case: Case, *, options: Sequence[str] = (), quick: bool = False) -> Cost:
    """The cost of one case.

    Args:
        converter: for the real-time factor.
        case: what is converted.
        options: of `vcvae convert`, such as `--model FOLDER`.
        quick: in one pass; else the voice is learned first.

    Raises:
        VcvaeError: the command fails, or the operating system does not tell a process's memory.
    """
    if not hasattr(os, "wait4"):
        raise VcvaeError("--cost: needs an operating system that tells a process's peak memory, such as Linux.")
    check_length(case.source)
    seconds, peak = _run_convert(case, [*options, "--no-cache", *(["--quick"] if quick else [])])
    voice = converter.voice(case.targets)
    converter.convert(case.source, voice)
    start = time.perf_counter()
    converter.convert(case.source, voice)
    rate = converter.mel_config.sample_rate
    factor = (time.perf_counter() - start) / (len(audio.read(case.source, rate)) / rate)
    return Cost(shipped_bytes() / 1e6, seconds, peak / 1e6, factor, torch.get_num_threads())


def shipped_bytes() -> int:
    """The bytes of the files that ship beside the code: weights with their configurations, and sentences."""
    folder = Path(pretrained.__file__).parent
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def _run_convert(case: Case, options: Sequence[str]) -> tuple[float, int]:
    """Seconds of wall time and peak memory in bytes of `vcvae convert` in a process of its own."""
    targets = [word for path in case.targets for word in ("--target", str(path))]
    with temporary_folder() as folder:
        command = [sys.executable, "-m", "vcvae", "convert", str(case.source), *targets]
        command += ["-o", str(folder / "converted.wav"), *options]
        log = folder / "log"
        with open(log, "wb") as file:
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=file, stderr=file, preexec_fn=following_this_process())
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise VcvaeError(f"--cost: 'vcvae convert' failed on {case.source}: {lines[-1]}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
