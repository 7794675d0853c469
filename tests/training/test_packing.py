import pytest
import torch

from tests.corpus import EAR
from vcvae.models.ecapa import BANDS, EcapaConfig, EcapaTDNN, Values
from vcvae.training import packing
from vcvae.training.packing import _round, _value, compensated, pack, refine, steps

FEW, MANY = (Values(**dict.fromkeys(Values.model_fields, n)) for n in (4, 256))


def make(values=None, seed=0):
    torch.manual_seed(seed)
    return EcapaTDNN(EcapaConfig(**EAR, values=values)).eval().requires_grad_(False)


@pytest.fixture
def heard():
    """Bands that move together, along six directions."""
    torch.manual_seed(1)
    return [20 * torch.randn(1, 6, 60).mT.matmul(torch.randn(6, BANDS)).mT for _ in range(4)]


def test_with_many_values_it_is_nearly_the_same_network(heard):
    whole, packed = make(), make(MANY, seed=3)
    for name, module in whole.named_modules():
        if name.endswith("norm.norm"):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    pack(whole, packed, heard)
    new = 20 * torch.randn(2, BANDS, 70)
    torch.testing.assert_close(packed(new), whole(new), atol=0.03, rtol=0.03)
    assert not any(module._forward_pre_hooks for module in whole.modules())


def test_with_few_values_what_was_heard_is_told_nearer_than_by_rounding(heard):
    whole, packed, rounded = make(), make(Values(), seed=3), make(Values(), seed=3)
    pack(whole, packed, heard)
    layer, kept, plain = whole.blocks[0].conv, packed.blocks[0].conv, rounded.blocks[0].conv
    weight, step = layer.conv.weight, kept.conv.step[:, None, None]
    plain.conv.choose(_round(weight, step, kept.conv.values))
    plain.conv.step.copy_(kept.conv.step)
    plain.conv.bias.copy_(layer.conv.bias)
    centred = [x - x.mean(dim=2, keepdim=True) for x in heard]
    missed = [sum((layer(x) - other(x)).square().sum().item() for x in centred) for other in (kept, plain)]
    assert missed[0] < 0.2 * missed[1]  # sixteen values, and inputs of six directions: much can be made up for


def test_inputs_that_know_nothing_of_each_other_are_rounded_to_the_nearest():
    """Then no weight can make up for another: by the moments of white noise of mean zero."""
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 40), torch.randn(5)
    step = steps(weight, 6)
    wanted, kept = compensated(weight, bias, step, 6, torch.eye(41))
    torch.testing.assert_close(wanted, weight)
    torch.testing.assert_close(kept, bias)


def test_the_bias_makes_up_for_what_is_constant():
    """An input that never changes is heard by weight and bias alike: together they say what they said."""
    torch.manual_seed(0)
    weight, bias, x = torch.randn(5, 1), torch.randn(5), 3.0
    step = torch.ones(5, 1)
    wanted, kept = compensated(weight, bias, step, 4, torch.tensor([[x * x, x], [x, 1.0]]))
    off = (_value(_round(wanted, step, 4), step, 4) - weight)[:, 0] * x
    # All but the ridge's share: a hundredth of the input's power, which is nine times that of the constant.
    torch.testing.assert_close(kept - bias, -off / 1.09)
    assert off.abs().max() > 0.5


def test_a_step_errs_less_than_the_widest():
    torch.manual_seed(0)
    weight = torch.randn(8, 400)
    step = steps(weight, 4)
    widest = 2 * weight.abs().amax(dim=1, keepdim=True) / 3
    error, widest_error = (
        (weight - _value(_round(weight, s, 4), s, 4)).abs().pow(4).mean(dim=1) for s in (step, widest)
    )
    assert (error <= widest_error).all()
    assert (step < widest).any()


def test_what_rounding_has_lost_is_learned_back_by_weights_of_the_same_few_values(heard, monkeypatch):
    monkeypatch.setattr(packing, "RATE", 3e-3)
    monkeypatch.setattr(packing, "WEIGHT_RATE", 2e-2)
    whole, packed = make(), make(FEW, seed=3)
    wanted = pack(whole, packed, heard)
    torch.manual_seed(2)
    mix = torch.randn(6, BANDS)
    draw = lambda: 20 * torch.randn(4, 6, 60).mT.matmul(mix).mT  # noqa: E731
    new, kinds = draw(), [type(module) for module in packed.modules()]
    missed = lambda: (packed.frames(new) - whole.frames(new)).square().mean().item()  # noqa: E731
    before, numbers = missed(), packed.mfa.conv.conv.digits.clone()
    packed.requires_grad_(True)
    error = lambda x: (packed.frames(x) - whole.frames(x)).float().square().mean()  # noqa: E731
    refine(packed, wanted, (draw() for _ in range(60)), error, steps=60)
    assert [type(module) for module in packed.modules()] == kinds
    assert missed() < 0.5 * before
    assert (packed.mfa.conv.conv.digits != numbers).any()
    # What is saved is what was learned: nothing between the values.
    other = make(FEW, seed=5)
    other.load_state_dict(packed.state_dict())
    torch.testing.assert_close(other(new), packed(new))
