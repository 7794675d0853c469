"""The layers of encoders and decoders.

Inside the networks a sequence is (batch, frames, channels): a convolution over time is then one matrix product, which
CPUs run faster than `conv1d`, forward and backward. A mask is (batch, frames, 1), 1 where a frame is real and 0 where
it is padding; `None` means that every frame is real. Padding is kept at zero, which is what the edges of an unpadded
sequence see, so a padded batch gives what its items give alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.features.mel import level

Mask = Tensor | None


def frame_mask(lengths: Tensor | None, frames: int) -> Mask:
    """Lengths (batch,) in frames → mask (batch, frames, 1), or None for None."""
    if lengths is None:
        return None
    return (torch.arange(frames, device=lengths.device) < lengths[:, None]).unsqueeze(-1).float()


def masked(x: Tensor, mask: Mask) -> Tensor:
    """Zero the padding of x (batch, frames, channels)."""
    return x if mask is None else x * mask


def halved(mask: Mask) -> Mask:
    """The mask of what a stride of 2 leaves."""
    return None if mask is None else mask[:, ::2]


def mean_over_time(x: Tensor, mask: Mask) -> Tensor:
    """Mean over the real frames: (batch, frames, channels) → (batch, 1, channels)."""
    if mask is None:
        return x.mean(dim=1, keepdim=True)
    return (x * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)


class Convolution(nn.Module):
    """A convolution over time, zero-padded so that `ceil(frames / stride)` frames come out.

    Example:
        >>> import torch
        >>> Convolution(80, 256, kernel=5, stride=2)(torch.randn(3, 11, 80)).shape
        torch.Size([3, 6, 256])
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.linear = nn.Linear(kernel * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.windows(x))

    def windows(self, x: Tensor) -> Tensor:
        """x (batch, frames, inputs) → what each output frame depends on, (batch, output frames, kernel · inputs)."""
        frames = x.shape[1]
        outputs = -(-frames // self.stride)
        before = (self.kernel - self.stride + 1) // 2
        after = max((outputs - 1) * self.stride + self.kernel - before - frames, 0)
        x = F.pad(x, (0, 0, before, after))
        last = (outputs - 1) * self.stride + 1
        return torch.cat([x[:, k : k + last : self.stride] for k in range(self.kernel)], dim=-1)


class Level(nn.Module):
    """The level of log-mels (batch, n_mels, frames), measured in their lowest `bands` bands: (batch, 1, 1) in nepers.

    A module, as `InstanceNorm` is, so that a stream can put a running level in its place.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands

    def forward(self, mel: Tensor, mask: Mask = None) -> Tensor:
        return level(mel[:, : self.bands], mask)


class InstanceNorm(nn.Module):
    """Each channel of each utterance to zero mean and unit variance over time: constants are removed.

    Ulyanov et al. 2016 (arXiv:1607.08022); that it removes the speaker: Chou et al. 2019 (AdaIN-VC, arXiv:1904.05742).
    """

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        centred = x - mean_over_time(x, mask)
        variance = mean_over_time(centred.square(), mask)
        # Not `variance + 1e-5`: then the output's variance would depend on the variance of a weak channel.
        return masked(centred * torch.rsqrt(variance.clamp(min=1e-5)), mask)


class AdaptiveInstanceNorm(nn.Module):
    """Instance normalization whose scale and shift come from a condition (Huang & Belongie 2017, arXiv:1703.06868)."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.normalize = InstanceNorm()
        self.affine = nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, mask: Mask, condition: Tensor) -> Tensor:
        """x (batch, frames, channels), condition (batch, condition) → like x."""
        scale, shift = self.affine(condition)[:, None].chunk(2, dim=-1)
        return masked(self.normalize(x, mask) * (1 + scale) + shift, mask)


class FrameNorm(nn.LayerNorm):
    """Each frame to zero mean and unit variance over its channels: constants over time stay."""

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        return masked(super().forward(x), mask)


class ResidualBlock(nn.Module):
    """x + W·GELU(convolution(norm(x))): a residual update of each frame from its neighbours."""

    def __init__(self, channels: int, *, kernel: int, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.convolution = Convolution(channels, channels, kernel=kernel)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        y = self.project(F.gelu(self.convolution(self.norm(x, mask))))
        return masked(x + y, mask)


class ConditionalLowRank(nn.Module):
    """x → U diag(g(c)) V x: a matrix of low rank that depends on a condition c; zero at first.

    Added to a layer's own matrix, it gives each condition weights of its own, as conditional convolutions do (Yang et
    al. 2019, arXiv:1904.04971), in the form of a low-rank adaptation (Hu et al. 2021, arXiv:2106.09685).
    """

    def __init__(self, inputs: int, outputs: int, *, condition: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.gate = nn.Linear(condition, rank)
        self.up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (batch, frames, inputs), condition (batch, condition) → (batch, frames, outputs)."""
        return self.up(self.down(x) * self.gate(condition)[:, None])


class AdaptiveResidualBlock(nn.Module):
    """A `ResidualBlock` with adaptive instance normalization, and with weights that depend on the condition, too."""

    def __init__(self, channels: int, *, kernel: int, condition: int, rank: int) -> None:
        """`rank` is that of the conditional part of each matrix; 0 for none."""
        super().__init__()
        self.norm = AdaptiveInstanceNorm(channels, condition)
        self.convolution = Convolution(channels, channels, kernel=kernel)
        self.project = nn.Linear(channels, channels)
        self.convolution_low_rank = self.project_low_rank = None
        if rank:
            sizes = {"condition": condition, "rank": rank}
            self.convolution_low_rank = ConditionalLowRank(kernel * channels, channels, **sizes)
            self.project_low_rank = ConditionalLowRank(channels, channels, **sizes)

    def forward(self, x: Tensor, mask: Mask, condition: Tensor) -> Tensor:
        """x (batch, frames, channels), condition (batch, condition) → like x."""
        windows = self.convolution.windows(self.norm(x, mask, condition))
        y = self.convolution.linear(windows)
        if self.convolution_low_rank is not None:
            y = y + self.convolution_low_rank(windows, condition)
        y = F.gelu(y)
        update = self.project(y)
        if self.project_low_rank is not None:
            update = update + self.project_low_rank(y, condition)
        return masked(x + update, mask)


class CrossAttention(nn.Module):
    """Adds to each frame the values of reference frames with matching keys (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, channels: int, *, keys: int, values: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = FrameNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key = Convolution(keys, channels, kernel=3)
        self.value = nn.Linear(values, channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask: Mask, keys: Tensor, values: Tensor, reference_mask: Mask = None) -> Tensor:
        """x (batch, frames, channels); keys, values and mask of the reference (batch, reference frames, …) → like x."""
        heads = [
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.query(self.norm(x)), self.key(keys), self.value(values))
        ]
        attention_mask = None if reference_mask is None else reference_mask.mT[:, None] > 0
        attended = F.scaled_dot_product_attention(*heads, attention_mask)
        return masked(x + self.project(attended.transpose(1, 2).flatten(2)), mask)


class StatisticsPooling(nn.Module):
    """Any number of frames to one vector: attention-weighted mean and standard deviation.

    Okabe et al. 2018 (arXiv:1803.10963), with one weight a channel as in ECAPA-TDNN (arXiv:2005.07143).
    """

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(channels, hidden), nn.Tanh(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        """(batch, frames, channels) → (batch, 2 · channels)."""
        score = self.score(x)
        if mask is not None:
            score = score.masked_fill(mask == 0, -torch.inf)
        weight = score.softmax(dim=1)
        mean = (weight * x).sum(dim=1)
        variance = (weight * (x - mean[:, None]).square()).sum(dim=1)
        return torch.cat([mean, (variance + 1e-5).sqrt()], dim=-1)
