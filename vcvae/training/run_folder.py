"""Reading the folder of a training run: its figures, its last checkpoint, and the task in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from vcvae.errors import VcvaeError
from vcvae.training import checkpoint
from vcvae.training.config import RunConfig
from vcvae.training.task import Task

FIGURES = "figures.jsonl"


def read_figures(folder: Path) -> list[dict[str, Any]]:
    """The logged figures of a run, in order: dicts with `step`, `group` (train or dev), and figures by name.

    Empty if nothing has been logged yet.
    """
    try:
        lines = (folder / FIGURES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    figures = []
    for line in lines:
        try:
            figures.append(json.loads(line))
        except ValueError:  # incomplete: the run was killed while it wrote this line
            continue
    return figures


def last_checkpoint(folder: Path) -> dict[str, Any]:
    """The last checkpoint of the run in `folder`.

    Raises:
        VcvaeError: no checkpoint in `folder`, or one that cannot be read.
    """
    saved = checkpoint.load(folder)
    if saved is None:
        raise VcvaeError(f"{folder}: no checkpoint here; give the output folder of a training run.")
    return saved


def load_task(saved: dict[str, Any], folder: Path) -> tuple[RunConfig, Task]:
    """The configuration and the task, with its weights, of a checkpoint of the run in `folder`."""
    from vcvae.training.tasks import TASKS, parse

    config = parse(yaml.safe_load(saved["config"]), context=str(folder))
    task = TASKS[config.task][1](config, saved["voices"])
    task.load_state_dict(saved["task"])
    return config, task.eval()


def load_run(folder: Path) -> tuple[RunConfig, Task]:
    """The configuration and the task, with its weights, of the last checkpoint of the run in `folder`.

    Raises:
        VcvaeError: no checkpoint in `folder`, or one that cannot be read.
    """
    return load_task(last_checkpoint(folder), folder)
