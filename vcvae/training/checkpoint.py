"""Checkpoints, written whole or not at all: the last, to go on as if nothing had happened, and those that were best."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from vcvae.errors import VcvaeError, disk_errors, replacing

NAME, BEST = "checkpoint.pt", "best"
DESCRIBES = {"task", "step", "voices", "corpus", "config", "validation"}  # what a model can be made of
GOES_ON = DESCRIBES | {"optimizers", "examples"}  # what a run can go on from


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) to the run's folder.

    Raises:
        VcvaeError: it cannot be written, on a full disk for example; the last checkpoint is then as it was.
    """
    _write(folder / NAME, state)


def load(folder: Path, *, mmap: bool = False) -> dict[str, Any] | None:
    """The state last saved, on the CPU, or None where there is none yet; `mmap` leaves weights on the disk till used.

    Raises:
        VcvaeError: the file is not a checkpoint.
    """
    return _read(folder / NAME, GOES_ON, mmap=mmap) if (folder / NAME).exists() else None


def save_best(folder: Path, state: dict[str, Any], *, keep: int, by: str) -> None:
    """Keep `state` if it is among the `keep` best of a run by a figure of its validation, and only those.

    `by` is 'lowest' or 'highest' and the figure's name. What only going on needs is left out.

    Raises:
        VcvaeError: it cannot be written.
    """
    if not keep or not math.isfinite(_cost(state, by)):
        return
    with disk_errors(folder):
        (folder / BEST).mkdir(exist_ok=True)
    name = f"step-{state['step']:08}.pt"
    kept = [(cost, path) for cost, path in _ranked(folder, by) if path.name != name]
    if len(kept) < keep or _cost(state, by) < kept[keep - 1][0]:
        _write(folder / BEST / name, {key: state[key] for key in DESCRIBES})
        for _, path in kept[keep - 1 :]:
            path.unlink()


def load_best(folder: Path, by: str) -> dict[str, Any] | None:
    """The best state that a run has kept, by a figure of its validation, or None."""
    ranked = _ranked(folder, by)
    return _read(ranked[0][1], DESCRIBES) if ranked else None


def _ranked(folder: Path, by: str) -> list[tuple[float, Path]]:
    """The kept ones, the best first, each with what its figure costs. (Mapped: their weights are not read for that.)"""
    kept = (folder / BEST).glob("step-*.pt")
    return sorted((_cost(_read(path, DESCRIBES, mmap=True), by), path) for path in kept)


def _cost(state: dict[str, Any], by: str) -> float:
    direction, name = by.split()
    return state["validation"]["figures"][name] * (1 if direction == "lowest" else -1)


def _write(path: Path, state: dict[str, Any]) -> None:
    with replacing(path, advice="make room there and run the same command, to go on from the last checkpoint") as file:
        torch.save(state, file)


def _read(path: Path, keys: set[str], *, mmap: bool = False) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if not isinstance(state, dict) or not keys <= state.keys():
            raise TypeError("it holds something else")
        return state
    except Exception as error:
        raise VcvaeError(
            f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]}); remove it to start the run anew."
        ) from None
