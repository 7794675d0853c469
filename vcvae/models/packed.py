"""Convolutions whose weights take few values, so that several of them share a byte."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PackedConvolution(nn.Module):
    """Over time. A weight is one of `values` even steps around zero, and each output has a step of its own.

    The number of a weight's value is a digit, and a byte holds as many digits as 256 allows: eight weights in 16 values
    take four bytes, in 6 values less than three, in 4 values two.

    Example:
        >>> import torch
        >>> convolution = PackedConvolution(8, 12, kernel=3, values=6)
        >>> convolution(torch.randn(2, 8, 20)).shape
        torch.Size([2, 12, 18])
        >>> {name: tuple(x.shape) for name, x in convolution.state_dict().items()}
        {'step': (12,), 'bias': (12,), 'digits': (96,)}
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, dilation: int = 1, values: int) -> None:
        super().__init__()
        self.values, self.dilation = values, dilation
        self.step = nn.Parameter(torch.full((outputs,), 2 / (values * math.sqrt(inputs * kernel))))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("steps", torch.empty(outputs, inputs, kernel), persistent=False)
        digits = len(_places(values))
        count = -(-self.steps.numel() // digits)
        self.register_buffer("digits", torch.randint(values**digits, (count,), dtype=torch.uint8))
        self._unpack()

    @torch.no_grad()
    def choose(self, numbers: Tensor) -> None:
        """Give each weight (outputs, inputs, kernel) the value of this number, from 0 for the least."""
        self.digits = pack(numbers, self.values)
        self.steps.copy_(numbers - (self.values - 1) / 2)

    def _load_from_state_dict(self, *args, **options) -> None:
        super()._load_from_state_dict(*args, **options)
        self._unpack()

    def _unpack(self) -> None:
        numbers = unpack(self.digits, self.values, self.steps.numel())
        torch.sub(numbers.view_as(self.steps), (self.values - 1) / 2, out=self.steps)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, frames) → (batch, outputs, frames - (kernel - 1) · dilation)."""
        y = F.conv1d(x, self.steps.to(x.dtype), dilation=self.dilation)
        return y * self.step[:, None] + self.bias[:, None]


def pack(numbers: Tensor, values: int) -> Tensor:
    """Numbers below `values`, of any shape → bytes (ceil(numbers / digits of a byte),), the first digit the least."""
    places = _places(values).to(numbers.device)
    flat = F.pad(numbers.flatten(), (0, -numbers.numel() % len(places)))
    return (flat.view(-1, len(places)) * places).sum(dim=1).to(torch.uint8)


def unpack(packed: Tensor, values: int, count: int) -> Tensor:
    """Bytes → the `count` numbers, (count,) uint8."""
    digits = (torch.arange(256)[:, None] // _places(values) % values).to(packed)
    return digits[packed.int()].flatten()[:count]


def _places(values: int) -> Tensor:
    """What a one in each digit of a byte counts."""
    digits = next(n for n in range(8, 0, -1) if values**n <= 256)
    return values ** torch.arange(digits)
