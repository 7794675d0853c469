import pytest
import torch

from tests.corpus import EAR
from vcvae.features.fbank import FBANK_BANDS
from vcvae.models.frozen.ecapa import EcapaTrunk, EcapaTrunkConfig
from vcvae.training.packing import _round, _value, compensated, pack, steps


def make(packed=False, seed=0):
    torch.manual_seed(seed)
    return EcapaTrunk(EcapaTrunkConfig(**EAR, packed=packed)).eval().requires_grad_(False)


@pytest.fixture
def heard():
    """Bands that move together, along six directions."""
    torch.manual_seed(1)
    return [20 * torch.randn(1, 6, 60).mT.matmul(torch.randn(6, FBANK_BANDS)).mT for _ in range(4)]


def test_it_is_nearly_the_same_network(heard):
    whole, packed = make(), make(packed=True, seed=3)
    for name, module in whole.named_modules():
        if name.endswith("norm.norm"):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    pack(whole, packed, heard)
    new = 20 * torch.randn(2, FBANK_BANDS, 70)
    assert torch.cosine_similarity(packed(new), whole(new)).min() > 0.98
    assert not any(module._forward_pre_hooks for module in whole.modules())


def test_what_was_heard_is_told_nearer_than_by_rounding(heard):
    whole, packed, rounded = make(), make(packed=True, seed=3), make(packed=True, seed=3)
    pack(whole, packed, heard)
    layer, kept, plain = whole.blocks[0].conv, packed.blocks[0].conv, rounded.blocks[0].conv
    weight, step = layer.conv.weight, kept.conv.step[:, None, None]
    plain.conv.choose(_round(weight, step))
    plain.conv.step.copy_(kept.conv.step)
    plain.conv.bias.copy_(layer.conv.bias)
    centred = [x - x.mean(dim=2, keepdim=True) for x in heard]
    missed = [sum((layer(x) - other(x)).square().sum().item() for x in centred) for other in (kept, plain)]
    assert missed[0] < 0.2 * missed[1]  # inputs of six directions: much can be made up for


def test_inputs_that_know_nothing_of_each_other_are_rounded_to_the_nearest():
    """Then no weight can make up for another: by the moments of white noise of mean zero."""
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 40), torch.randn(5)
    wanted, kept = compensated(weight, bias, steps(weight), torch.eye(41))
    torch.testing.assert_close(wanted, weight)
    torch.testing.assert_close(kept, bias)


def test_the_bias_makes_up_for_what_is_constant():
    """An input that never changes is heard by weight and bias alike: together they say what they said."""
    torch.manual_seed(0)
    weight, bias, x = torch.randn(5, 1), torch.randn(5), 3.0
    step = torch.ones(5, 1)
    wanted, kept = compensated(weight, bias, step, torch.tensor([[x * x, x], [x, 1.0]]))
    off = (_value(_round(wanted, step), step) - weight)[:, 0] * x
    # All but the ridge's share: a hundredth of the input's power, which is nine times that of the constant.
    torch.testing.assert_close(kept - bias, -off / 1.09)
    assert off.abs().max() > 0.3


def test_a_step_errs_less_than_the_widest():
    torch.manual_seed(0)
    weight = torch.randn(8, 400)
    step = steps(weight)
    widest = 2 * weight.abs().amax(dim=1, keepdim=True) / 15
    error, widest_error = ((weight - _value(_round(weight, s), s)).abs().pow(4).mean(dim=1) for s in (step, widest))
    assert (error <= widest_error).all()
    assert (step < widest).any()
