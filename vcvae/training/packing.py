"""Making a network small: its weights take sixteen values, chosen so that what it says of speech stays as it was."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vcvae.models.packed import VALUES, PackedConvolution

RIDGE = 0.01  # of the mean power of what is heard, added in all directions
SHRUNK = torch.linspace(0.4, 1.0, 13)  # of the widest range of values, those that are tried
TOGETHER = 128  # columns that are rounded before the others are told


@torch.no_grad()
def pack(whole: nn.Module, packed: nn.Module, heard: Iterable[Tensor]) -> None:
    """Give the `packed` network what the `whole` one knows, as far as its values allow.

    The one is the other, or part of it, with `PackedConvolution`s where that has convolutions. Weights are rounded one
    input after another, and those that are still to come make up for what each rounding does to what the layer says of
    what is `heard`, batches for the whole network: GPTQ (Frantar et al. 2023, arXiv:2210.17323). The bias is the last,
    and never rounded.
    """
    names = [name for name, module in packed.named_modules() if isinstance(module, PackedConvolution)]
    layers = {name: whole.get_submodule(name) for name in names}
    moments = dict.fromkeys(layers, 0.0)

    def count(name: str):
        def hook(conv: nn.Conv1d, inputs: tuple[Tensor]) -> None:
            (x,), (kernel,), (dilation,) = inputs, conv.kernel_size, conv.dilation
            last = x.shape[2] - (kernel - 1) * dilation
            taps = [x[:, :, k * dilation : k * dilation + last] for k in range(kernel)]
            seen = torch.cat([*taps, torch.ones_like(taps[0][:, :1])], dim=1).transpose(0, 1).flatten(1)
            moments[name] = moments[name] + seen @ seen.T

        return hook

    hooks = [layer.register_forward_pre_hook(count(name)) for name, layer in layers.items()]
    for batch in heard:
        whole(batch)
    for hook in hooks:
        hook.remove()
    rest = {name: x for name, x in whole.state_dict().items() if name.rpartition(".")[0] not in layers}
    packed.load_state_dict(rest, strict=False)
    for name, layer in layers.items():
        _imitate(packed.get_submodule(name), layer, moments[name])


def _imitate(packed: PackedConvolution, conv: nn.Conv1d, moments: Tensor) -> None:
    weight = conv.weight.transpose(1, 2)  # (outputs, kernel, inputs), as in the moments
    step = steps(weight.flatten(1))
    wanted, bias = compensated(weight.flatten(1), conv.bias, step, moments)
    wanted = wanted.unflatten(1, weight.shape[1:]).transpose(1, 2)
    packed.choose(_round(wanted, step[:, None]))
    packed.step.copy_(step[:, 0])
    packed.bias.copy_(bias)


def steps(weight: Tensor) -> Tensor:
    """For each row of weights (outputs, inputs) the step, (outputs, 1), by which rounding errs least.

    In the fourth power: large weights matter more than their number, and by squares the network says less of what it
    did.
    """
    widest = 2 * weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-9) / (VALUES - 1)
    tried = [share * widest for share in SHRUNK.tolist()]
    errors = torch.stack([(weight - _value(_round(weight, s), s)).abs().pow(4).sum(1) for s in tried])
    return torch.stack(tried)[errors.argmin(dim=0), torch.arange(len(weight))]


def compensated(weight: Tensor, bias: Tensor, step: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (outputs, inputs) that make up for each other's rounding to the nearest value, and the bias (outputs,).

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
    for start in range(0, inputs, TOGETHER):
        end = min(start + TOGETHER, inputs)
        errors = torch.empty(len(weight), end - start)
        for i in range(start, end):
            value = _value(_round(left[:, i : i + 1], step), step)
            error = (left[:, i : i + 1] - value) / rest[i, i]
            left[:, i + 1 : end] -= error * rest[i, i + 1 : end]
            errors[:, i - start] = error[:, 0]
        left[:, end:] -= errors @ rest[start:end, end:]
    wanted = torch.empty_like(weight)
    wanted[:, order] = left[:, :inputs]
    return wanted, left[:, inputs]


def _round(weight: Tensor, step: Tensor) -> Tensor:
    return (weight / step + (VALUES - 1) / 2).round().clamp(0, VALUES - 1).long()


def _value(number: Tensor, step: Tensor) -> Tensor:
    return (number - (VALUES - 1) / 2) * step
