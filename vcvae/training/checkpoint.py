"""Checkpoints, written atomically: the last one, from which a run resumes, and the best ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from vcvae.errors import VcvaeError, disk_errors, replacing

NAME = "checkpoint.pt"
BEST = "best"  # the folder of the best checkpoints
MODEL_KEYS = {"task", "step", "voices", "corpus", "config", "validation"}  # needed to export a model
RESUME_KEYS = MODEL_KEYS | {"optimizers", "examples"}  # needed to resume a run


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) as the last checkpoint of the run in `folder`.

    Raises:
        VcvaeError: it cannot be written, on a full disk for example; the previous checkpoint is then unchanged.
    """
    _write(folder / NAME, state)


def load(folder: Path, *, mmap: bool = False) -> dict[str, Any] | None:
    """The last checkpoint, on the CPU, or None if there is none; with `mmap` weights are read only when used.

    Raises:
        VcvaeError: the file is not a checkpoint.
    """
    return _read(folder / NAME, RESUME_KEYS, mmap=mmap) if (folder / NAME).exists() else None


def save_best(folder: Path, state: dict[str, Any], *, keep: int, by: str) -> None:
    """Keep `state` if it is among the `keep` best of the run by a validation figure; remove those that no longer are.

    `by` is 'lowest' or 'highest' and the name of the figure. Only `MODEL_KEYS` are kept, not the optimizers.

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
        _write(folder / BEST / name, {key: state[key] for key in MODEL_KEYS})
        for _, path in kept[keep - 1 :]:
            path.unlink()


def load_best(folder: Path, by: str) -> dict[str, Any] | None:
    """The best checkpoint of a run by a validation figure, or None if there is none."""
    ranked = _ranked(folder, by)
    return _read(ranked[0][1], MODEL_KEYS) if ranked else None


def _ranked(folder: Path, by: str) -> list[tuple[float, Path]]:
    """(cost, path) of the best checkpoints, best first. They are memory-mapped, so their weights are not read."""
    kept = (folder / BEST).glob("step-*.pt")
    return sorted((_cost(_read(path, MODEL_KEYS, mmap=True), by), path) for path in kept)


def _cost(state: dict[str, Any], by: str) -> float:
    direction, name = by.split()
    return state["validation"]["figures"][name] * (1 if direction == "lowest" else -1)


def _write(path: Path, state: dict[str, Any]) -> None:
    with replacing(path, advice="make room there and run the same command, to resume from the last checkpoint") as file:
        torch.save(state, file)


def _read(path: Path, keys: set[str], *, mmap: bool = False) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if not isinstance(state, dict) or not keys <= state.keys():
            raise TypeError("it lacks keys of a checkpoint")
        return state
    except Exception as error:
        raise VcvaeError(
            f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]}); remove it to start the run again."
        ) from None
