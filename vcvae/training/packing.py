"""Making a network small: its weights take few values, chosen so that what it says of speech stays as it was."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vcvae.models.ecapa import Convolution, EcapaTDNN, Scale
from vcvae.models.packed import PackedConvolution

RIDGE = 0.01  # of the mean power of what is heard, added in all directions
SHRUNK = torch.linspace(0.4, 1.0, 13)  # of the widest range of values, those that are tried
TOGETHER = 128  # columns that are rounded before the others are told


@torch.no_grad()
def pack(whole: EcapaTDNN, packed: EcapaTDNN, heard: Iterable[Tensor]) -> None:
    """Give the `packed` network what the `whole` one knows, as far as its values allow.

    Weights are rounded one input after another, and those that are still to come make up for what each rounding does to
    what the layer says of the `heard` (batch, bands, frames): GPTQ (Frantar et al. 2023, arXiv:2210.17323). The bias is
    the last, and never rounded.
    """
    layers = {name: module for name, module in whole.named_modules() if isinstance(module, Convolution)}
    moments = dict.fromkeys(layers, 0.0)

    def count(name: str):
        def hook(conv: torch.nn.Conv1d, inputs: tuple[Tensor]) -> None:
            x, reach = inputs[0], (conv.kernel_size[0] - 1) * conv.dilation[0]
            taps = [x[:, :, k * conv.dilation[0] :][:, :, : x.shape[2] - reach] for k in range(conv.kernel_size[0])]
            seen = torch.cat([*taps, torch.ones_like(taps[0][:, :1])], dim=1).transpose(0, 1).flatten(1)
            moments[name] = moments[name] + seen @ seen.T

        return hook

    hooks = [layer.conv.register_forward_pre_hook(count(name)) for name, layer in layers.items()]
    for bands in heard:
        whole(bands)
    for hook in hooks:
        hook.remove()
    for name, module in whole.named_modules():
        if isinstance(module, Scale):
            packed.get_submodule(name).load_state_dict(module.state_dict())
    for name, layer in layers.items():
        _imitate(packed.get_submodule(name).conv, layer.conv, moments[name])


def _imitate(packed: PackedConvolution, conv: torch.nn.Conv1d, moments: Tensor) -> None:
    weight = conv.weight.transpose(1, 2)  # (outputs, kernel, inputs), as in the moments
    step = steps(weight.flatten(1), packed.values)
    numbers, bias = choose(weight.flatten(1), conv.bias, step, packed.values, moments)
    packed.choose(numbers.unflatten(1, weight.shape[1:]).transpose(1, 2))
    packed.step.copy_(step[:, 0])
    packed.bias.copy_(bias)


def steps(weight: Tensor, values: int) -> Tensor:
    """For each row of weights (outputs, inputs) the step, (outputs, 1), by which rounding errs least.

    In the fourth power: large weights matter more than their number, and by squares the network says less of what it
    did.
    """
    widest = 2 * weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-9) / (values - 1)
    tried = [share * widest for share in SHRUNK.tolist()]
    errors = torch.stack([(weight - _value(_round(weight, s, values), s, values)).abs().pow(4).sum(1) for s in tried])
    return torch.stack(tried)[errors.argmin(dim=0), torch.arange(len(weight))]


def choose(weight: Tensor, bias: Tensor, step: Tensor, values: int, moments: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of values (outputs, inputs) for weights, and the bias (outputs,) that suits them.

    The moments (inputs + 1, inputs + 1) are those of the inputs and of a constant 1, which the bias multiplies.
    """
    inputs = weight.shape[1]
    # What is heard most is rounded first, while all the others can still make up for it.
    order = moments.diagonal()[:inputs].argsort(descending=True)
    places = torch.cat([order, torch.tensor([inputs])])
    square = moments.double()
    square = square + RIDGE * square.diagonal()[:inputs].mean() * torch.eye(inputs + 1, dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(square[places][:, places]))
    # Row i of this: how the rest make up for an error at i, once all before i are settled (eq. 3 and step 3 there).
    rest = torch.linalg.cholesky(inverse, upper=True).to(weight)
    left = torch.cat([weight, bias[:, None]], dim=1)[:, places]
    numbers = torch.empty(weight.shape, dtype=torch.long)
    for start in range(0, inputs, TOGETHER):
        end = min(start + TOGETHER, inputs)
        errors = torch.empty(len(weight), end - start)
        for i in range(start, end):
            number = _round(left[:, i : i + 1], step, values)
            error = (left[:, i : i + 1] - _value(number, step, values)) / rest[i, i]
            left[:, i:end] -= error * rest[i, i:end]
            numbers[:, order[i]], errors[:, i - start] = number[:, 0], error[:, 0]
        left[:, end:] -= errors @ rest[start:end, end:]
    return numbers, left[:, inputs]


def _round(weight: Tensor, step: Tensor, values: int) -> Tensor:
    return (weight / step + (values - 1) / 2).round().clamp(0, values - 1).long()


def _value(number: Tensor, step: Tensor, values: int) -> Tensor:
    return (number - (values - 1) / 2) * step
