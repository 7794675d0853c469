"""ECAPA-TDNN, a speaker verification network.

Desplanques et al. 2020 (arXiv:2005.07143). Blocks and parameters have the names of SpeechBrain (Ravanelli et al. 2021,
arXiv:2106.04624), whose public checkpoint can be loaded. Inside the network a sequence is (batch, frames, channels):
a convolution is then one matrix product, which is faster on CPUs, forward and backward.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.features.fbank import FBANK_BANDS
from vcvae.models.hub import build, fetch, read_checkpoint

ECAPA_REPOSITORY = "speechbrain/spkrec-ecapa-voxceleb"
ECAPA_CHECKPOINT = "embedding_model.ckpt"


class EcapaTrunkConfig(Config):
    """The sizes of an ECAPA-TDNN without its last layer; the defaults are those of the public checkpoint."""

    channels: int = Field(
        1024, gt=0, le=8192, description="width of the blocks; three times as many channels are pooled"
    )
    scale: int = Field(8, gt=1, le=64, description="groups of channels in a Res2Net block")
    bottleneck: int = Field(
        128, gt=0, le=4096, description="width of the squeeze-excitation blocks and of the attention"
    )
    block_rank: int = Field(
        0, ge=0, le=8192, description="rank of the blocks' matrices, in two factors; 0 for whole ones"
    )
    pooled_rank: int = Field(
        0, ge=0, le=24_576, description="rank of the matrix before the pooling, in two factors; 0 for a whole one"
    )

    @model_validator(mode="after")
    def _holds_together(self) -> EcapaTrunkConfig:
        if self.channels % self.scale:
            raise ValueError("scale must divide channels")
        return self


class EcapaConfig(EcapaTrunkConfig):
    """The sizes of the whole network."""

    latent: int = Field(192, gt=0, le=4096, description="dimensions of the speaker embedding")


class ReflectConv1d(nn.Module):
    """A convolution over time that keeps the length, padded by reflection.

    With a rank, it is one of kernel 1 whose matrix is the product of two.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, dilation: int = 1, rank: int = 0) -> None:
        super().__init__()
        self.dilation = dilation
        self.padding = (kernel - 1) * dilation // 2
        if rank:
            self.conv = nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))
        else:
            self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, inputs) → (batch, frames, outputs)."""
        if isinstance(self.conv, nn.Sequential):
            return self.conv(x)
        frames = x.shape[1]
        if self.padding:
            x = _reflected(x, self.padding)
            x = torch.cat([x[:, k : k + frames] for k in range(0, 2 * self.padding + 1, self.dilation)], dim=2)
        return F.linear(x, self.conv.weight.mT.flatten(1), self.conv.bias)


def _reflected(x: Tensor, padding: int) -> Tensor:
    """x (batch, frames, channels), padded at both ends by reflection; where it is too short, by repetition."""
    if x.shape[1] > padding:
        before = x[:, 1 : padding + 1].flip(1)
        after = x[:, -padding - 1 : -1].flip(1)
    else:
        before = x[:, :1].expand(-1, padding, -1)
        after = x[:, -1:].expand(-1, padding, -1)
    return torch.cat([before, x, after], dim=1)


class FrozenBatchNorm(nn.Module):
    """Batch normalization that always uses its running statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(…, channels) → like x."""
        n = self.norm
        scale = n.weight * torch.rsqrt(n.running_var + n.eps)
        return torch.addcmul(n.bias - n.running_mean * scale, x, scale)


class TDNNBlock(nn.Module):
    """Convolution, ReLU, batch normalization."""

    def __init__(self, inputs: int, outputs: int, **options: int) -> None:
        super().__init__()
        self.conv = ReflectConv1d(inputs, outputs, **options)
        self.norm = FrozenBatchNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.relu(self.conv(x)))


class Res2NetBlock(nn.Module):
    """Groups of channels; each but the first is convolved after the output of the group before is added to it.

    Res2Net, Gao et al. 2019 (arXiv:1904.01169).
    """

    def __init__(self, channels: int, scale: int, *, dilation: int) -> None:
        super().__init__()
        width = channels // scale
        self.blocks = nn.ModuleList(TDNNBlock(width, width, kernel=3, dilation=dilation) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = x.chunk(len(self.blocks) + 1, dim=2)
        outputs = [first]
        for block, group in zip(self.blocks, rest, strict=True):
            outputs.append(block(group if len(outputs) == 1 else group + outputs[-1]))
        return torch.cat(outputs, dim=2)


class SEBlock(nn.Module):
    """Squeeze and excitation: channels are scaled by a function of their means over time.

    Hu et al. 2018 (arXiv:1709.01507).
    """

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.conv1 = ReflectConv1d(channels, bottleneck)
        self.conv2 = ReflectConv1d(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean(dim=1, keepdim=True)))))


class SERes2NetBlock(nn.Module):
    """A residual block: TDNN, Res2Net, TDNN, squeeze and excitation."""

    def __init__(self, config: EcapaTrunkConfig, *, dilation: int) -> None:
        super().__init__()
        channels = config.channels
        self.tdnn1 = TDNNBlock(channels, channels, rank=config.block_rank)
        self.res2net_block = Res2NetBlock(channels, config.scale, dilation=dilation)
        self.tdnn2 = TDNNBlock(channels, channels, rank=config.block_rank)
        self.se_block = SEBlock(channels, config.bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x))))


class AttentiveStatisticsPooling(nn.Module):
    """Mean and standard deviation over time, weighted by attention with global context."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.tdnn = TDNNBlock(3 * channels, bottleneck)
        self.conv = ReflectConv1d(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, channels) → (batch, 2 · channels)."""
        uniform = torch.full_like(x[:, :, :1], 1 / x.shape[1])
        context = torch.cat(_weighted_statistics(x, uniform), dim=1)[:, None]
        # The same for all frames, so it is multiplied by its columns of the weight once.
        weight = self.tdnn.conv.conv.weight[..., 0]
        columns = x.shape[2]
        hidden = F.linear(x, weight[:, :columns]) + F.linear(context, weight[:, columns:], self.tdnn.conv.conv.bias)
        attention = self.conv(torch.tanh(self.tdnn.norm(F.relu(hidden)))).softmax(dim=1)
        return torch.cat(_weighted_statistics(x, attention), dim=1)


def _weighted_statistics(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean and standard deviation of x (batch, frames, channels), (batch, channels) each."""
    mean = (weight * x).sum(dim=1)
    variance = (weight * (x - mean[:, None]).square()).sum(dim=1)
    return mean, variance.clamp(min=1e-12).sqrt()


class EcapaTrunk(nn.Module):
    """Filter bank → pooled statistics: an ECAPA-TDNN without its last layer.

    Example:
        >>> import torch
        >>> EcapaTrunk(EcapaTrunkConfig(channels=16, bottleneck=8))(torch.randn(2, 80, 150)).shape
        torch.Size([2, 96])
    """

    def __init__(self, config: EcapaTrunkConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.blocks = nn.ModuleList([TDNNBlock(FBANK_BANDS, channels, kernel=5)])
        self.blocks.extend(SERes2NetBlock(config, dilation=dilation) for dilation in (2, 3, 4))
        self.mfa = TDNNBlock(3 * channels, 3 * channels, rank=config.pooled_rank)
        self.asp = AttentiveStatisticsPooling(3 * channels, config.bottleneck)
        self.asp_bn = FrozenBatchNorm(6 * channels)

    def forward(self, bands: Tensor) -> Tensor:
        """The same as `pooled_statistics`."""
        return self.pooled_statistics(bands)

    def pooled_statistics(self, bands: Tensor) -> Tensor:
        """Filter bank in dB (batch, 80, frames), 100 frames per second → (batch, 6 · channels).

        Each band's mean over time is subtracted first.
        """
        x = self.blocks[0]((bands - bands.mean(dim=2, keepdim=True)).mT)
        outputs = []
        for block in self.blocks[1:]:
            x = block(x)
            outputs.append(x)
        return self.asp_bn(self.asp(self.mfa(torch.cat(outputs, dim=2))))


class EcapaTDNN(EcapaTrunk):
    """Filter bank (`vcvae.features.fbank.filterbank`) → speaker embedding, to be compared by the cosine.

    Example:
        >>> import torch
        >>> EcapaTDNN(EcapaConfig(channels=16, bottleneck=8, latent=12))(torch.randn(2, 80, 150)).shape
        torch.Size([2, 12])
    """

    def __init__(self, config: EcapaConfig | None = None) -> None:
        config = config or EcapaConfig()
        super().__init__(config)
        self.fc = ReflectConv1d(6 * config.channels, config.latent)

    def forward(self, bands: Tensor) -> Tensor:
        """Filter bank in dB (batch, 80, frames), 100 frames per second → (batch, latent)."""
        return self.fc(self.pooled_statistics(bands)[:, None])[:, 0]


def load_ecapa(source: str | Path | None = None) -> EcapaTDNN:
    """The public network of a folder or a repository that holds its checkpoint; by default SpeechBrain's, of VoxCeleb.

    Raises:
        VcvaeError: there is no checkpoint, or it is not one of such a network.
    """
    file = fetch(source or ECAPA_REPOSITORY, ECAPA_CHECKPOINT, give="one of an ECAPA-TDNN of SpeechBrain")
    weights = read_checkpoint(file, of="an ECAPA-TDNN of SpeechBrain")
    return build(EcapaTDNN, weights, path=file, config="the public checkpoint")
