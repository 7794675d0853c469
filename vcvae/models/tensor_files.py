"""Safetensors files: the header is read first, and the tensors only where their sizes can be. Nothing is unpickled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from vcvae.errors import VcvaeError, check_file, reason

MAX_VALUES = 2**27  # of all tensors of a file: in float32 512 MiB
MAX_AXES = 8  # of a tensor


def read_tensors(
    path: str | Path, *, max_values: int = MAX_VALUES, advice: str = "fetch it again"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, and its metadata; `advice` ends the message about what is no file.

    Raises:
        Exception: of any kind, where it is no such file, or holds more than `max_values`; within `refusing`, a
            VcvaeError.
    """
    check_file(path, advice=advice)
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        shapes = {name: file.get_slice(name).get_shape() for name in names}
        for name, shape in shapes.items():
            if len(shape) > MAX_AXES:
                raise ValueError(f"'{name}' has {len(shape)} axes")
        values = sum(map(math.prod, shapes.values()))
        if values > max_values:
            raise ValueError(f"{values:,} values, more than the {max_values:,} that it can have")
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


@contextmanager
def refusing(path: str | Path, *, of: str, advice: str) -> Iterator[None]:
    """Turn whatever is raised within the block, where a file is read and checked, into a VcvaeError about it.

    Args:
        of: what the file should be.
        advice: ends the message: what to do.
    """
    try:
        yield
    except VcvaeError:
        raise
    except Exception as error:  # bytes that are something else can fail in any way
        missing = isinstance(error, KeyError) and len(error.args) == 1
        why = f"{error.args[0]} is missing" if missing else reason(error)
        raise VcvaeError(f"{path}: not {of} ({why}); {advice}.") from None
