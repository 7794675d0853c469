import pytest
import torch
from torch.nn import functional as F

from vcvae.models.layers import (
    AdaptiveResidualBlock,
    Convolution,
    FrameNorm,
    InstanceNorm,
    ResidualBlock,
    StatisticsPooling,
    frame_mask,
)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (5, 2), (4, 2)])
@pytest.mark.parametrize("frames", [1, 2, 7, 8])
def test_convolution_is_conv1d(kernel, stride, frames):
    torch.manual_seed(0)
    layer, x = Convolution(6, 4, kernel=kernel, stride=stride), torch.randn(2, frames, 6)
    weight = layer.linear.weight.reshape(4, kernel, 6).transpose(1, 2)
    before = (kernel - stride + 1) // 2
    padded = F.pad(x.transpose(1, 2), (before, kernel))
    expected = F.conv1d(padded, weight, layer.linear.bias, stride=stride)[..., : -(-frames // stride)]
    torch.testing.assert_close(layer(x), expected.transpose(1, 2))


def test_instance_norm_removes_any_gain_and_offset_of_a_channel():
    torch.manual_seed(0)
    x, gain, offset = torch.randn(2, 50, 8), torch.rand(2, 1, 8) + 0.5, torch.randn(2, 1, 8)
    torch.testing.assert_close(InstanceNorm()(gain * x + offset), InstanceNorm()(x), atol=1e-4, rtol=1e-4)


def test_instance_norm_gives_weak_and_strong_channels_the_same_variance():
    torch.manual_seed(0)
    x = torch.randn(2, 50, 8) * torch.logspace(-1.5, 1, 8)
    torch.testing.assert_close(InstanceNorm()(x).std(dim=1, correction=0), torch.ones(2, 8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", [InstanceNorm(), FrameNorm(8)])
def test_residual_block_ignores_padding(norm):
    torch.manual_seed(0)
    block, x = ResidualBlock(8, kernel=3, norm=norm), torch.randn(1, 9, 8)
    mask = frame_mask(torch.tensor([9]), 14)
    padded = block(F.pad(x, (0, 0, 0, 5)), mask)
    torch.testing.assert_close(padded[:, :9], block(x), atol=1e-5, rtol=1e-5)
    assert (padded[:, 9:] == 0).all()


def test_conditional_weights_are_zero_at_first_then_of_low_rank():
    """The block with conditional weights is the block whose matrices are W + U diag(g(c)) V, for each condition."""
    torch.manual_seed(0)
    block, x, conditions = (
        AdaptiveResidualBlock(8, kernel=3, condition=5, rank=2),
        torch.randn(2, 9, 8),
        torch.randn(2, 5),
    )
    plain = AdaptiveResidualBlock(8, kernel=3, condition=5, rank=0)
    plain.load_state_dict(block.state_dict(), strict=False)
    torch.testing.assert_close(block(x, None, conditions), plain(x, None, conditions))
    layers = {"convolution.linear": block.convolution_low_rank, "project": block.project_low_rank}
    for layer in layers.values():
        torch.nn.init.normal_(layer.up.weight)
    for i in range(2):
        expected = AdaptiveResidualBlock(8, kernel=3, condition=5, rank=0)
        expected.load_state_dict(plain.state_dict())
        for name, layer in layers.items():
            gate = layer.gate(conditions[i])
            expected.get_submodule(name).weight.data += layer.up.weight * gate @ layer.down.weight
        result = block(x, None, conditions)[i : i + 1]
        torch.testing.assert_close(result, expected(x[i : i + 1], None, conditions[i : i + 1]), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(result, plain(x[i : i + 1], None, conditions[i : i + 1]), atol=1e-2)


def test_pooling_ignores_padding_and_the_order_of_frames():
    torch.manual_seed(0)
    pool, x = StatisticsPooling(8), torch.randn(2, 9, 8)
    lengths = torch.tensor([9, 9])
    padded = F.pad(x, (0, 0, 0, 5), value=3.0)
    torch.testing.assert_close(pool(padded, frame_mask(lengths, 14)), pool(x))
    torch.testing.assert_close(pool(x.flip(1)), pool(x))
