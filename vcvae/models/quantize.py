"""Storing weights in 8 bits: int8 values and one float16 scale for each row of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

SCALE_SUFFIX = ".int8_scale"  # a quantized weight's scale is stored at the weight's name and this
MIN_ROW = 32  # values; weights with shorter rows stay as they are, since their scales would take as much space


def quantize_int8(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict with its matrices in int8, symmetrically: weight ≈ scale · integer in [-127, 127].

    There is one scale for each row, that is, for each output of a layer. Vectors, matrices with rows of less than
    `MIN_ROW` values and tensors that are integers already are returned unchanged.
    """
    stored = {}
    for name, weight in weights.items():
        stored[name] = weight
        if weight.is_floating_point() and weight.ndim > 1 and weight[0].numel() >= MIN_ROW:
            rows = weight.float().flatten(1)
            scale = (rows.abs().amax(dim=1) / 127).clamp(min=2**-24).half()
            codes = (rows / scale.float()[:, None]).round().clamp(-127, 127)
            stored[name] = codes.to(torch.int8).view_as(weight)
            stored[name + SCALE_SUFFIX] = scale
    return stored


def dequantize(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict whose matrices `quantize_int8` may have stored as int8; those are float32 again.

    Raises:
        ValueError: a scale that does not belong to an int8 matrix of as many rows.
    """
    scales = {name.removesuffix(SCALE_SUFFIX): scale for name, scale in stored.items() if name.endswith(SCALE_SUFFIX)}
    for name, scale in scales.items():
        codes = stored.get(name)
        if codes is None or codes.dtype != torch.int8 or codes.ndim < 2 or scale.shape != codes.shape[:1]:
            raise ValueError(f"'{name + SCALE_SUFFIX}' scales no int8 matrix of as many rows")
    weights = {name: weight for name, weight in stored.items() if not name.endswith(SCALE_SUFFIX)}
    for name, scale in scales.items():
        codes = weights[name]
        weights[name] = (codes.flatten(1) * scale.float()[:, None]).view(codes.shape)
    return weights
