"""Versions, devices and the state of the repository, for bug reports and the records of runs."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from vcvae.errors import VcvaeError, shorten

if TYPE_CHECKING:
    import torch

LAUNCHED = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # variables of a launcher
MAX_PROCESSES = 2**16
PR_SET_PDEATHSIG = 1  # of prctl(2)
PACKAGES = ("vcvae", "torch", "torchaudio", "accelerate", "lhotse", "librosa", "numpy", "soundfile", "soxr")


def environment() -> dict[str, str]:
    """Name → version or description; missing packages are listed as such."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    try:
        import torch
    except Exception as error:
        return versions | {"devices": f"unknown, as torch cannot be imported ({error})"}
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    return versions | {
        "cuda": str(torch.version.cuda if torch.cuda.is_available() else None),
        "devices": ", ".join([*devices, "cpu"]),
        "threads": str(torch.get_num_threads()),
    }


def git_state() -> dict[str, str]:
    """The commit of the repository of the current folder, and whether files differ from it; {} outside of one."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout

    try:
        return {"git_commit": git("rev-parse", "HEAD").strip(), "git_dirty": "yes" if git("status", "-s") else "no"}
    except (OSError, subprocess.SubprocessError):
        return {}


def launched_processes() -> int:
    """How many processes the launcher has started, as it says in the environment; 1 where there is none.

    Raises:
        VcvaeError: the variables are not those of a launcher.
    """
    count, *others = (os.environ.get(name, "") for name in LAUNCHED)
    if count in ("", "1"):
        return 1
    numbers = [count, others[0], others[1]]
    if not all(others) or not all(n.isdecimal() and int(n) < MAX_PROCESSES for n in numbers) or count == "0":
        raise VcvaeError(
            f"WORLD_SIZE={shorten(count)}: set in the environment as a launcher does, but not together with a number "
            f"in RANK and LOCAL_RANK, and {' and '.join(LAUNCHED[3:])}; unset it, or use accelerate launch."
        )
    return int(count)


def following_this_process() -> Callable[[], None] | None:
    """The `preexec_fn` of a subprocess that gets SIGTERM when this process has ended, even if killed; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def follow() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before
            os._exit(1)

    return follow


def find_device(name: str) -> torch.device:
    """The device of a name such as `cuda:1`; `auto` is the accelerator if there is one, else the CPU.

    Raises:
        VcvaeError: an unknown name, or a device that this machine lacks.
    """
    import torch

    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    kind = name.split(":")[0]
    try:
        device = torch.device(name)
        usable = available[kind] and (device.index or 0) < (torch.cuda.device_count() if kind == "cuda" else 1)
    except (RuntimeError, KeyError):
        usable = False
    if not usable:
        names = ", ".join(name for name, is_available in available.items() if is_available)
        raise VcvaeError(f"--device {name}: not available here; use auto, or one of: {names}.")
    return device
