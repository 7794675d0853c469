"""The layers of a discriminator, whose outputs are also compared with each other (feature matching)."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F


def layer_outputs(layers: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """The output of each layer of a sequence, after a leaky ReLU."""
    outputs = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.1)
        outputs.append(x)
    return outputs
