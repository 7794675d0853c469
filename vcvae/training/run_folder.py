"""Reading the folder of a training run: its figures, its last checkpoint, and the task in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vcvae.documents import parse_yaml, read_text
from vcvae.errors import VcvaeError
from vcvae.training import checkpoint
from vcvae.training.config import RunConfig
from vcvae.training.task import Task

FIGURES = "figures.jsonl"
MAX_LOG_BYTES = 2**28


def read_figures(folder: Path) -> list[dict[str, Any]]:
    """The logged figures of a run, in order: dicts with `step`, `group` (train or dev), and figures by name.

    Empty if nothing has been logged yet. A last line that was cut off, as when the run was killed while it wrote, is
    left out.

    Raises:
        VcvaeError: another line is not one of figures.
    """
    path = folder / FIGURES
    if not path.exists() or not path.stat().st_size:
        return []
    *lines, torn = read_text(path, MAX_LOG_BYTES, advice="remove it, and a new log begins").split("\n")
    figures = [_figures(line) for line in lines]
    if None in figures:
        raise VcvaeError(
            f"{path}: line {figures.index(None) + 1} is not one of figures, such as "
            '{"step": 50, "group": "train", "reconstruction": 0.5}; remove that line.'
        )
    return [*figures, *filter(None, [_figures(torn)])]


def _figures(line: str) -> dict[str, Any] | None:
    """The figures in a line of the log, or None if it is another line."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or type(values.get("step")) is not int or values["step"] < 0:
        return None
    figures = [value for name, value in values.items() if name != "group"]
    return values if values.get("group") in ("train", "dev") and all(map(_is_number, figures)) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def last_checkpoint(folder: Path) -> dict[str, Any]:
    """The last checkpoint of the run in `folder`.

    Raises:
        VcvaeError: no checkpoint in `folder`, or one that cannot be read.
    """
    saved = checkpoint.load(folder)
    if saved is None:
        raise VcvaeError(f"{folder}: no checkpoint here; give the output folder of a training run.")
    return saved


def saved_config(saved: dict[str, Any]) -> RunConfig:
    """The configuration in a checkpoint.

    Raises:
        VcvaeError: there is none.
    """
    from vcvae.training.tasks import parse

    values = parse_yaml(saved["config"], context=f"{saved['path']}: 'config'")
    if not isinstance(values, dict):
        raise VcvaeError(f"{saved['path']}: 'config' holds no keys; remove the file.")
    return parse(values, context=f"{saved['path']}: 'config'")


def load_task(saved: dict[str, Any]) -> tuple[RunConfig, Task]:
    """The configuration and the task, with its weights, of a checkpoint.

    Raises:
        VcvaeError: the checkpoint holds another configuration than its weights belong to, or none.
    """
    from vcvae.training.tasks import TASKS

    config = saved_config(saved)
    task = TASKS[config.task][1](config, saved["voices"])
    checkpoint.restore_weights(task, saved)
    return config, task.eval()


def load_run(folder: Path) -> tuple[RunConfig, Task]:
    """The configuration and the task, with its weights, of the last checkpoint of the run in `folder`.

    Raises:
        VcvaeError: no checkpoint in `folder`, or one that cannot be read.
    """
    return load_task(last_checkpoint(folder))
