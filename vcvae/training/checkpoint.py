"""Checkpoints: written whole or not at all, and enough to go on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vcvae.errors import VcvaeError, replacing

NAME = "checkpoint.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) to the run's folder.

    Raises:
        VcvaeError: it cannot be written, on a full disk for example; the last checkpoint is then as it was.
    """
    with replacing(folder / NAME) as file:
        torch.save(state, file)


def load(folder: Path) -> dict[str, Any] | None:
    """The state last saved, on the CPU, or None where there is none yet.

    Raises:
        VcvaeError: the file is not a checkpoint.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not {"task", "optimizers", "step", "voices", "config"} <= state.keys():
            raise TypeError("it holds something else")
        return state
    except Exception as error:
        raise VcvaeError(
            f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]}); remove it to start the run anew."
        ) from None
