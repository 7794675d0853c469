"""What the published checkpoints of others have in common: a file of weights, which must fit a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vcvae.errors import VcvaeError


def read_weights(path: Path, *, of: str, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote, by name; those under `key`, where one is given.

    Only tensors are read: no code of the file's runs.

    Raises:
        VcvaeError: the file holds something else than `of` (such as "a HiFi-GAN generator").
    """
    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # bytes that are something else can fail in any way
        weights = None
    if key is not None:
        weights = weights.get(key) if isinstance(weights, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        holds = "weights by name" if key is None else f"{{'{key}': weights}}"
        raise VcvaeError(f"{path}: not {of}; it should hold the authors' {holds}.")
    return weights


def load_weights(model: nn.Module, weights: dict[str, Tensor], *, path: Path, config: str) -> None:
    """Give `model` the weights read from `path`: all that it has, and no others.

    Raises:
        VcvaeError: a weight that is absent, of another shape, or unknown to the model that the file `config` describes.
    """
    wanted = model.state_dict()
    for name in sorted(weights.keys() | wanted.keys()):
        a, b = (tuple(side[name].shape) if name in side else "absent" for side in (weights, wanted))
        if a != b:
            raise VcvaeError(
                f"{path}: '{name}' is {a} here and {b} by {config}; use the {config} that it was trained with."
            )
    model.load_state_dict(weights)
