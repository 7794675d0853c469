"""Exponential moving average (EMA) of a model's weights; the average is what `vcvae export` writes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def ema(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights of `model`, frozen; `update_parameters` updates it.

    The decay grows from 0.1 to `decay`, (1 + n) / (10 + n) after n updates, so that the initial weights are forgotten.
    """

    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averages, current, share)

    return AveragedModel(model, multi_avg_fn=torch.no_grad()(update)).requires_grad_(False).eval()
