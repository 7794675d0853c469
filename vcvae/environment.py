"""The versions and the machine, as a bug report or a later reader of a run needs them."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from vcvae.errors import VcvaeError

if TYPE_CHECKING:
    import torch

PACKAGES = ("vcvae", "torch", "torchaudio", "accelerate", "lhotse", "librosa", "numpy", "soundfile", "soxr")


def environment() -> dict[str, str]:
    """Name → version or description; what is missing is said, and stops nothing."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    try:
        import torch
    except Exception as error:
        return found | {"devices": f"unknown, as torch cannot be imported ({error})"}
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    return found | {
        "cuda": str(torch.version.cuda if torch.cuda.is_available() else None),
        "devices": ", ".join([*devices, "cpu"]),
        "threads": str(torch.get_num_threads()),
    }


def git_state() -> dict[str, str]:
    """The commit of the repository that the current folder is in, and whether files differ from it; {} in none."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout

    try:
        return {"git_commit": git("rev-parse", "HEAD").strip(), "git_dirty": "yes" if git("status", "-s") else "no"}
    except (OSError, subprocess.SubprocessError):
        return {}


def find_device(name: str) -> torch.device:
    """`auto` → the accelerator where there is one, else the CPU.

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
        known = available[kind] and (device.index or 0) < (torch.cuda.device_count() if kind == "cuda" else 1)
    except (RuntimeError, KeyError):
        known = False
    if not known:
        usable = ", ".join(n for n, there in available.items() if there)
        raise VcvaeError(f"--device {name}: not available here; use auto, or one of: {usable}.")
    return device
