"""Making a network thin: of what each layer hears, only the directions that matter to what it says are kept."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vcvae.models.ecapa import Convolution, EcapaTDNN, Scale

RIDGE = 1e-6  # of the mean power of what is heard, added in all directions


@torch.no_grad()
def thin(whole: EcapaTDNN, thinned: EcapaTDNN, heard: Iterable[Tensor]) -> None:
    """Give the `thinned` network what the `whole` one knows, as far as its ranks allow.

    Of all layers of a rank, each is the nearest to the whole one in what it says of the `heard` (batch, bands, frames),
    not in its weights (Zhang et al. 2015, arXiv:1505.06798): the outputs' main directions P, and
    the weights P'W that give the coordinates along them.
    """
    layers = {name: module for name, module in whole.named_modules() if isinstance(module, Convolution)}
    moments = {name: 0.0 for name in layers}

    def count(name: str):
        def hook(conv: torch.nn.Conv1d, inputs: tuple[Tensor]) -> None:
            x, reach = inputs[0], (conv.kernel_size[0] - 1) * conv.dilation[0]
            frames = x.shape[2] - reach
            taps = [x[:, :, k * conv.dilation[0] :][:, :, :frames] for k in range(conv.kernel_size[0])]
            seen = torch.cat(taps, dim=1).transpose(0, 1).flatten(1).double()
            moments[name] = moments[name] + seen @ seen.T

        return hook

    hooks = [layer.conv.register_forward_pre_hook(count(name)) for name, layer in layers.items()]
    for bands in heard:
        whole(bands)
    for hook in hooks:
        hook.remove()
    for name, module in whole.named_modules():
        if isinstance(module, Scale):
            thinned.get_submodule(name).load_state_dict(module.state_dict())
    for name, layer in layers.items():
        _imitate(thinned.get_submodule(name), layer, moments[name])


def _imitate(thinned: Convolution, layer: Convolution, moments: Tensor) -> None:
    weight = layer.conv.weight.transpose(1, 2)  # (outputs, kernel, inputs)
    flat = weight.flatten(1).double()
    # What was never heard matters, too, as little as that may be.
    moments = moments + RIDGE * moments.diagonal().mean() * torch.eye(len(moments), device=moments.device)
    main = torch.linalg.eigh(flat @ moments @ flat.T).eigenvectors[:, -thinned.conv.out_channels :]
    thinned.conv.weight.copy_((main.T @ flat).unflatten(1, weight.shape[1:]).transpose(1, 2))
    thinned.expand.weight.copy_(main[:, :, None])
    thinned.expand.bias.copy_(layer.conv.bias)


def least_squares(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The linear map and the shift that take inputs (samples, n) nearest to outputs (samples, m): (m, n) and (m,)."""
    x = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1).double()
    moments = x.T @ x
    moments += RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=x.dtype, device=x.device)
    solution = torch.linalg.solve(moments, x.T @ outputs.double()).to(outputs)
    return solution[:-1].T, solution[-1]
