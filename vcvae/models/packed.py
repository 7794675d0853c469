"""Convolutions whose weights take sixteen values, so that two of them share a byte."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VALUES = 16  # even steps around zero, none of which is zero
PER_BYTE = 2
DIGITS = "digits"  # the last part of the name of what holds so many weights in a byte


class PackedConvolution(nn.Module):
    """Over time. A weight is one of `VALUES` even steps around zero, and each output has a step of its own.

    Example:
        >>> import torch
        >>> convolution = PackedConvolution(8, 12, kernel=3)
        >>> convolution(torch.randn(2, 8, 20)).shape
        torch.Size([2, 12, 18])
        >>> {name: tuple(x.shape) for name, x in convolution.state_dict().items()}
        {'step': (12,), 'bias': (12,), 'digits': (144,)}
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.dilation = dilation
        self.step = nn.Parameter(torch.full((outputs,), 2 / (VALUES * math.sqrt(inputs * kernel))))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("steps", torch.empty(outputs, inputs, kernel), persistent=False)
        self.register_buffer(DIGITS, torch.randint(256, (-(-self.steps.numel() // PER_BYTE),), dtype=torch.uint8))
        self._unpack()

    @torch.no_grad()
    def choose(self, numbers: Tensor) -> None:
        """Give each weight (outputs, inputs, kernel) the value of this number, from 0 for the least."""
        self.digits = pack(numbers)
        self._unpack()

    def _load_from_state_dict(self, *args, **options) -> None:
        super()._load_from_state_dict(*args, **options)
        self._unpack()

    def _unpack(self) -> None:
        torch.sub(unpack(self.digits, self.steps.numel()).view_as(self.steps), (VALUES - 1) / 2, out=self.steps)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, frames) → (batch, outputs, frames - (kernel - 1) · dilation)."""
        y = F.conv1d(x, self.steps.to(x.dtype), dilation=self.dilation)
        return y * self.step[:, None] + self.bias[:, None]


def pack(numbers: Tensor) -> Tensor:
    """Numbers below 16, of any shape → bytes (ceil(numbers / 2),), of each two the first the lesser digit."""
    first, second = F.pad(numbers.flatten(), (0, numbers.numel() % 2)).view(-1, 2).unbind(dim=1)
    return (first + VALUES * second).to(torch.uint8)


def unpack(packed: Tensor, count: int) -> Tensor:
    """Bytes → the `count` numbers, (count,) uint8."""
    return torch.stack([packed % VALUES, packed // VALUES], dim=1).flatten()[:count]
