import gc
import weakref

import pytest
import torch
from torch import nn

from vcvae.models.conversion.difference import MAX_DIFFERENCE_BYTES, WeightDifference


@pytest.fixture
def before():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 64), nn.GELU(), nn.Linear(64, 48, bias=False), nn.LayerNorm(48))


def moved(module, *, rank=None, names=None, size=0.1):
    """A copy whose weights have moved at random; matrices by a difference of this rank."""
    copy = nn.Sequential(nn.Linear(40, 64), nn.GELU(), nn.Linear(64, 48, bias=False), nn.LayerNorm(48))
    copy.load_state_dict(module.state_dict())
    with torch.no_grad():
        for name, weight in copy.named_parameters():
            if names is None or name in names:
                if rank and weight.ndim == 2:
                    weight += size * torch.randn(len(weight), rank) @ torch.randn(rank, weight.shape[1])
                else:
                    weight += size * torch.randn_like(weight)
    return copy


def test_difference_applied_is_the_other_module(before):
    after = moved(before)
    changed = WeightDifference.between(before, after).applied_to(before)
    for (name, value), expected in zip(changed.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(value, expected, msg=name, atol=1e-5, rtol=1e-4)
        assert not value.requires_grad
    x = torch.randn(3, 40)
    torch.testing.assert_close(changed(x), after(x), atol=1e-4, rtol=1e-4)


def test_difference_leaves_the_module_as_it_was_and_shares_what_did_not_change(before):
    weights = {name: value.clone() for name, value in before.state_dict().items()}
    difference = WeightDifference.between(before, moved(before, names={"0.bias", "2.weight"}))
    assert (set(difference.vectors), set(difference.matrices)) == ({"0.bias"}, {"2.weight"})
    changed = difference.applied_to(before)
    assert all(torch.equal(value, weights[name]) for name, value in before.state_dict().items())
    assert changed[0].weight is before[0].weight
    assert changed[3].weight is before[3].weight
    assert changed[2].weight is not before[2].weight


def test_difference_is_applied_to_a_module_once_and_let_go_with_it(before):
    difference = WeightDifference.between(before, moved(before))
    module = moved(before)
    changed = weakref.ref(difference.applied_to(module))
    assert difference.applied_to(module) is changed()
    del module
    gc.collect()
    assert changed() is None


def test_difference_keeps_the_rank_that_there_is(before):
    difference = WeightDifference.between(before, moved(before, rank=3))
    assert {left.shape[1] for left, _ in difference.matrices.values()} == {3}


@pytest.mark.parametrize("max_bytes", [1500, 4000, MAX_DIFFERENCE_BYTES])
def test_difference_keeps_the_largest_components_that_fit(before, max_bytes):
    after = moved(before)
    difference = WeightDifference.between(before, after, max_bytes=max_bytes)
    stored = difference.stored()
    assert sum(tensor.numel() * tensor.element_size() for tensor in stored.values()) <= max_bytes
    kept, left_out = [], []
    for name in ("0.weight", "2.weight"):
        delta = after.get_parameter(name) - before.get_parameter(name)
        values = torch.linalg.svdvals(delta) ** 2 / (sum(delta.shape) + 4)
        rank = difference.matrices[name][0].shape[1] if name in difference.matrices else 0
        kept += values[:rank].tolist()
        left_out += values[rank:].tolist()
    assert kept
    assert min(kept) >= max(left_out, default=0)
    assert (not left_out) == (max_bytes == MAX_DIFFERENCE_BYTES)


def test_difference_survives_being_stored(before):
    difference = WeightDifference.between(before, moved(before))
    stored = difference.stored()
    assert {tensor.dtype for tensor in stored.values()} == {torch.int8, torch.float16}
    again = WeightDifference.from_stored(stored)
    for name in (*difference.vectors, *difference.matrices):
        expected = difference.of(name)
        assert (again.of(name) - expected).norm() < 0.02 * expected.norm(), name


def test_difference_refuses_what_does_not_fit(before):
    difference = WeightDifference.between(before, moved(before))
    with pytest.raises(ValueError, match="which the module lacks"):
        difference.applied_to(nn.Sequential(nn.Linear(40, 60), nn.GELU()))
    stored = difference.stored()
    for name in ("0.weight.left", "0.weight.right"):
        with pytest.raises(ValueError, match="has no counterpart"):
            WeightDifference.from_stored({key: value for key, value in stored.items() if not key.startswith(name)})


def test_difference_of_equal_modules_is_empty(before):
    difference = WeightDifference.between(before, before)
    assert difference.stored() == {}
    assert difference.applied_to(before)[0].weight is before[0].weight


def test_difference_made_in_inference_mode_can_be_differentiated(before):
    difference = WeightDifference.between(before, moved(before))
    with torch.inference_mode():
        changed = difference.applied_to(before)
    x = torch.randn(2, 40, requires_grad=True)
    changed(x).sum().backward()
    assert x.grad.abs().sum() > 0
