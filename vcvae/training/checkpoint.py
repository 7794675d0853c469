"""Checkpoints, written atomically: the last one, from which a run resumes, the one before it, and the best ones."""

from __future__ import annotations

import logging
import math
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import TypedDict

from vcvae.errors import VcvaeError, disk_errors, reason, replacing, shorten
from vcvae.models.hub import check_weights, read_saved

NAME = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
BEST = "best"  # the folder of the best checkpoints
MAX_VOICES = 2**20

Count = Annotated[int, Field(ge=0, le=2**62)]
# In a small file one mapping can stand in thousands of places: so each has a greatest length.
Figures = Annotated[dict[str, float], Field(max_length=1024)]
Moments = Annotated[dict[str, Tensor], Field(max_length=8)]
_log = logging.getLogger("vcvae")


class Validation(TypedDict):
    """The figures of the last validation."""

    step: Count
    figures: Figures


class Unlogged(TypedDict):
    """The sums of the training figures since the last line of the log, over `count` steps."""

    count: Count
    sums: Figures


class OptimizerState(TypedDict):
    """Moments of the gradient by the number of a parameter in its group. (The rest of its state is configured.)"""

    state: Annotated[dict[int, Moments], Field(max_length=2**14)]


class ModelState(BaseModel):
    """What a checkpoint holds to export a model."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    version: Literal[1] = 1
    task: dict[str, Tensor] = Field(max_length=2**16)
    step: Count
    voices: int = Field(gt=0, le=MAX_VOICES)
    corpus: str = Field(max_length=1000)
    config: str = Field(max_length=2**18)
    validation: Validation


class RunState(ModelState):
    """What a checkpoint holds to resume a run."""

    optimizers: dict[str, OptimizerState] = Field(max_length=16)
    scaler: Figures | None = None
    examples: Count
    unlogged: Unlogged = {"count": 0, "sums": {}}


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (the keys of `RunState`) as the last checkpoint of the run in `folder`, and keep the one before it.

    Raises:
        VcvaeError: it cannot be written, on a full disk for example; the last checkpoint is then unchanged.
    """
    _write(folder / NAME, state, keep=folder / PREVIOUS)


def load(folder: Path, *, mmap: bool = False) -> dict[str, Any] | None:
    """The last checkpoint, on the CPU, with its `path`, or None if there is none.

    If it is torn, the one before it, with a warning. With `mmap` weights are read only when used.

    Raises:
        VcvaeError: neither is a checkpoint.
    """
    problems = []
    for path in (folder / NAME, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            state = _read(path, RunState, mmap=mmap)
        except VcvaeError as error:
            problems.append(error)
            continue
        if problems:
            _log.warning(f"{problems[0]} {path.name}, of step {state['step']}, is used in its place.")
        return state
    if problems:
        raise VcvaeError(f"{problems[0]} Remove it to start the run again.")
    return None


def save_best(folder: Path, state: dict[str, Any], *, keep: int, by: str) -> None:
    """Keep `state` if it is among the `keep` best of the run by a validation figure; remove those that no longer are.

    `by` is 'lowest' or 'highest' and the name of the figure. Only the keys of `ModelState` are kept.

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
        _write(folder / BEST / name, {key: state[key] for key in ModelState.model_fields if key in state})
        for _, path in kept[keep - 1 :]:
            path.unlink()


def load_best(folder: Path, by: str) -> dict[str, Any] | None:
    """The best checkpoint of a run by a validation figure, or None if there is none. Torn ones are passed over."""
    for _, path in _ranked(folder, by):
        try:
            return _read(path, ModelState)
        except VcvaeError as error:
            _log.warning(f"{error} It is passed over.")
    return None


def restore_weights(task: nn.Module, saved: dict[str, Any]) -> None:
    """Load the weights of a checkpoint into the task that its configuration describes.

    Raises:
        VcvaeError: they are not those of such a task, or not finite.
    """
    check_weights(
        saved["task"], task.state_dict(), path=Path(saved["path"]), config="its configuration", advice=_advice(saved)
    )
    task.load_state_dict(saved["task"])


def restore_optimizer(
    optimizer: Optimizer, name: str, parameters: Iterable[nn.Parameter], saved: dict[str, Any]
) -> None:
    """Load the moments of the parameter group `name`; what is configured, such as the decays, stays as configured.

    Raises:
        VcvaeError: they are not those of these parameters, or not finite.
    """
    moments = saved["optimizers"].get(name, {"state": {}})["state"]
    parameters = dict(enumerate(parameters))
    expected = {}
    for i in moments.keys() & parameters.keys():
        like = parameters[i].detach()
        expected |= {f"{i}.step": torch.zeros(()), f"{i}.exp_avg": like, f"{i}.exp_avg_sq": like}
    check_weights(
        {f"{i}.{key}": value for i, values in moments.items() for key, value in values.items()},
        expected,
        path=Path(saved["path"]),
        config=f"the parameters of optimizers.{name}",
        advice=_advice(saved),
    )
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _advice(saved: dict[str, Any]) -> str:
    path = Path(saved["path"])
    previous = path.with_name(PREVIOUS)
    if path.name == NAME and previous.exists():
        return f"remove it, and the run goes on from {previous.name}"
    return "remove it to start the run again"


def _ranked(folder: Path, by: str) -> list[tuple[float, Path]]:
    """(cost, path) of the best checkpoints, best first. They are memory-mapped, so their weights are not read."""
    ranked = []
    for path in (folder / BEST).glob("step-*.pt"):
        try:
            ranked.append((_cost(_read(path, ModelState, mmap=True), by), path))
        except VcvaeError as error:
            _log.warning(f"{error} It is passed over.")
    return sorted(ranked)


def _cost(state: dict[str, Any], by: str) -> float:
    direction, name = by.split()
    return state["validation"]["figures"].get(name, math.nan) * (1 if direction == "lowest" else -1)


def _write(path: Path, state: dict[str, Any], *, keep: Path | None = None) -> None:
    with replacing(path, advice="make room there and run the same command, to resume from the last checkpoint") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())  # or after a power failure the name may stand for an empty file
        if keep and zipfile.is_zipfile(path):  # not what is torn
            os.replace(path, keep)


def _read(path: Path, schema: type[ModelState], *, mmap: bool = False) -> dict[str, Any]:
    """Raises:
    VcvaeError: the file is not a checkpoint; the sentence says which key is wrong.
    """
    try:
        if not mmap:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise ValueError("a checksum is wrong")
        state = schema.model_validate(read_saved(path, mmap=mmap))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        problem = f"'{shorten(key)}' is wrong: {first['msg']}" if key else first["msg"]
        raise VcvaeError(f"{path}: not the checkpoint of a run ({problem}).") from None
    except Exception as error:  # bytes that are something else can fail in any way
        raise VcvaeError(f"{path}: cannot be read as a checkpoint ({reason(error)}).") from None
    return {name: getattr(state, name) for name in schema.model_fields} | {"path": str(path)}
