"""The running average of a model's weights, which is what is released."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def ema(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential average of `model`, frozen; `update_parameters` moves it on.

    It begins short and grows to its `decay`, so that it forgets where the model began.
    """

    def move(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averages, current, share)

    return AveragedModel(model, multi_avg_fn=torch.no_grad()(move)).requires_grad_(False).eval()
