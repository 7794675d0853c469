import pytest
import torch

from vcvae.models.packed import VALUES, PackedConvolution, pack, unpack


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 4, 1)])
def test_numbers_come_back_and_two_share_a_byte(shape):
    numbers = torch.randint(VALUES, shape)
    packed = pack(numbers)
    assert packed.dtype == torch.uint8
    assert len(packed) == -(-numbers.numel() // 2)
    assert torch.equal(unpack(packed, numbers.numel()).view_as(numbers), numbers)


def test_it_is_a_convolution_by_few_values():
    torch.manual_seed(0)
    packed = PackedConvolution(3, 5, kernel=3, dilation=2)
    numbers = torch.randint(VALUES, (5, 3, 3))
    packed.choose(numbers)
    packed.step.data.uniform_(0.1, 1)
    packed.bias.data.normal_()
    plain = torch.nn.Conv1d(3, 5, 3, dilation=2)
    plain.weight.data = (numbers - 7.5) * packed.step[:, None, None]
    plain.bias.data = packed.bias.data
    x = torch.randn(2, 3, 20)
    torch.testing.assert_close(packed(x), plain(x))


def test_only_the_bytes_are_saved_and_half_of_the_rest_loses_no_weight():
    packed, other = PackedConvolution(8, 6, kernel=3), PackedConvolution(8, 6, kernel=3)
    saved = packed.state_dict()
    assert sum(x.numel() * x.element_size() for x in saved.values()) == 8 * 6 * 3 / 2 + 2 * 6 * 4
    other.load_state_dict(saved)
    assert torch.equal(other.steps, packed.steps)
    assert torch.equal(packed.half().float().steps, other.steps)
    x = torch.randn(1, 8, 12)
    torch.testing.assert_close(packed(x), other(x), atol=1e-2, rtol=1e-2)
