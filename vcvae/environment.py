"""Versions, devices and the state of the repository, for bug reports and the records of runs."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
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
    values = {name: os.environ.get(name, "") for name in LAUNCHED}
    count, rank, local_rank, address, port = values.values()
    if not (count or rank or local_rank):
        return 1
    limits = {"WORLD_SIZE": MAX_PROCESSES, "MASTER_PORT": 2**16 - 1}
    limits |= dict.fromkeys(("RANK", "LOCAL_RANK"), int(count) - 1 if _is_number(count, MAX_PROCESSES) else 0)
    for name, limit in limits.items():
        if values[name] and not _is_number(values[name], limit):
            raise _no_launcher(name, values[name], f"it is no number from 0 to {limit}")
    if count == "0":
        raise _no_launcher("WORLD_SIZE", count, "there is at least this process")
    if count in ("", "1") and not local_rank:  # no process group is made
        return 1
    name = "WORLD_SIZE" if count else "LOCAL_RANK"
    missing = [other for other, value in values.items() if not value]
    if missing:
        raise _no_launcher(name, values[name], f"without {' and '.join(missing)}")
    try:
        socket.getaddrinfo(address, int(port))
    except (OSError, UnicodeError):
        raise _no_launcher("MASTER_ADDR", address, "no machine of that name is found") from None
    return int(count)


def _is_number(text: str, limit: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= limit


def _no_launcher(name: str, value: str, problem: str) -> VcvaeError:
    return VcvaeError(
        f"{name}={shorten(value)}: set in the environment as a launcher does, but {problem}; unset it, or use "
        "accelerate launch."
    )


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
