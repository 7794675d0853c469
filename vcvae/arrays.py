"""Samples that a Python caller passes as an array: of any type, brought to float32 in [-1, 1]."""

from __future__ import annotations

import math
import numbers
import os
from typing import Any

import numpy as np

from vcvae.errors import VcvaeError

LOWEST_RATE, HIGHEST_RATE = 4000, 768_000  # Hz; outside this range a rate is wrong, or too little speech is left

# Bits of a signed type → the widths that its samples may use, in bits.
_WIDTHS = {8: (8,), 16: (16,), 32: (16, 32), 64: (16, 32, 64)}


def is_path(value: Any) -> bool:
    """Whether a value is the path of a file."""
    return isinstance(value, str | os.PathLike)


def is_samples(value: Any) -> bool:
    """Whether a value is one recording's samples: an array, a tensor, or a list of numbers."""
    if isinstance(value, list | tuple):
        return bool(value) and isinstance(value[0], numbers.Number | np.generic)
    return hasattr(value, "__array__")


def as_samples(values: Any) -> np.ndarray:
    """One channel of samples → (samples,) float32 with a peak of at most 1; louder ones are scaled down to it.

    Takes NumPy arrays and lists of floating-point numbers or integers, in any byte order and layout, and tensors of
    torch on any device. Integers are scaled by the width of their type, as audio files hold them, and unsigned ones
    are about its middle; where all of a wider type fit 16 bits, they are 16-bit samples: of their own width they would
    be silent.

    Raises:
        VcvaeError: another type, more than one dimension, no samples, or NaN or infinite ones.
    """
    try:
        if hasattr(values, "detach"):  # a tensor; torch is not imported here
            values = values.detach().cpu()
            values = values.double() if values.is_floating_point() else values
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # lists of unequal length, sparse tensors and others
        raise VcvaeError(f"a {type(values).__name__} cannot be read as an array of audio; give (samples,).") from None
    if array.ndim != 1 or not len(array):
        raise VcvaeError(f"an array of audio must be (samples,), not {array.shape}; give one channel.")
    if array.dtype.kind not in "fiu":
        raise VcvaeError(f"an array of audio must hold real numbers, not {array.dtype}; convert it to float32.")
    if array.dtype.kind != "f":
        return _full_scale(array)
    if not np.isfinite(array).all():
        raise VcvaeError("an array of audio holds NaN or infinite samples; remove them first.")
    if array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    return (array / max(1.0, array.max(), -array.min())).astype(np.float32)


def _full_scale(integers: np.ndarray) -> np.ndarray:
    """Integers (samples,) → float32 in [-1, 1]."""
    values = integers.astype(np.float64)
    bits = 8 * integers.dtype.itemsize
    if integers.dtype.kind == "u":
        values -= 2.0 ** (bits - 1)
    else:
        peak = max(values.max(), -values.min())
        bits = next(width for width in _WIDTHS[bits] if peak <= 2.0 ** (width - 1))
    return (values / 2.0 ** (bits - 1)).astype(np.float32)


def checked_rate(sample_rate: Any) -> float:
    """A sampling rate in Hz.

    Raises:
        VcvaeError: no number, or none that audio can have.
    """
    is_number = isinstance(sample_rate, numbers.Real | np.generic) and not isinstance(sample_rate, bool | np.bool_)
    if not (is_number and math.isfinite(sample_rate) and LOWEST_RATE <= sample_rate <= HIGHEST_RATE):
        raise VcvaeError(f"sample_rate {sample_rate!r}: must be a number from {LOWEST_RATE} to {HIGHEST_RATE} Hz.")
    return float(sample_rate)
