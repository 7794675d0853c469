"""ECAPA-TDNN, which tells speakers apart, with weights of any value or packed.

Desplanques et al. 2020 (arXiv:2005.07143); the names of parts and the filter bank are those of SpeechBrain
(Ravanelli et al. 2021, arXiv:2106.04624), whose public checkpoint fits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.features.fbank import BANDS
from vcvae.models.hub import fetch, load_weights, read_weights
from vcvae.models.packed import PackedConvolution

REPOSITORY, CHECKPOINT = "speechbrain/spkrec-ecapa-voxceleb", "embedding_model.ckpt"


class EcapaTrunkConfig(Config):
    """The sizes of an ECAPA-TDNN without its last layer; the defaults are those of the public checkpoint."""

    channels: int = Field(1024, gt=0, description="width of the blocks; three times as many are pooled")
    scale: int = Field(8, gt=1, description="groups of channels in a block, each of which hears the one before, too")
    bottleneck: int = Field(128, gt=0, description="width of gates and attention")
    packed: bool = Field(False, description="whether two weights share a byte")


class EcapaConfig(EcapaTrunkConfig):
    """The sizes of a whole one."""

    latent: int = Field(192, gt=0, description="numbers by which speakers are told apart")


class ReflectConv1d(nn.Module):
    """Over time, mirrored at the ends."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, dilation: int = 1, packed: bool = False):
        super().__init__()
        self.around = (kernel - 1) * dilation // 2
        if packed:
            self.conv = PackedConvolution(inputs, outputs, kernel=kernel, dilation=dilation)
        else:
            self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, frames) → (batch, outputs, frames)."""
        if self.around:
            x = F.pad(x, (self.around, self.around), mode="reflect" if x.shape[2] > self.around else "replicate")
        return self.conv(x)


class FrozenBatchNorm(nn.Module):
    """A batch normalization that has seen all it needs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm
        return F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps)


class TDNNBlock(nn.Module):
    """ReflectConv1d, ReLU, scale."""

    def __init__(self, inputs: int, outputs: int, **options: int) -> None:
        super().__init__()
        self.conv, self.norm = ReflectConv1d(inputs, outputs, **options), FrozenBatchNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.relu(self.conv(x)))


class Res2NetBlock(nn.Module):
    """Channels in groups; each but the first is convolved with what came of the one before (Res2Net, Gao et al. 2019,
    arXiv:1904.01169)."""

    def __init__(self, channels: int, scale: int, *, dilation: int, packed: bool) -> None:
        super().__init__()
        width = channels // scale
        self.blocks = nn.ModuleList(
            TDNNBlock(width, width, kernel=3, dilation=dilation, packed=packed) for _ in range(scale - 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = x.chunk(len(self.blocks) + 1, dim=1)
        done = [first]
        for block, group in zip(self.blocks, rest, strict=True):
            done.append(block(group if len(done) == 1 else group + done[-1]))
        return torch.cat(done, dim=1)


class SEBlock(nn.Module):
    """Channels are weighed by what all frames say (squeeze and excitation, Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int, bottleneck: int, *, packed: bool) -> None:
        super().__init__()
        self.conv1 = ReflectConv1d(channels, bottleneck, packed=packed)
        self.conv2 = ReflectConv1d(bottleneck, channels, packed=packed)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean(dim=2, keepdim=True)))))


class SERes2NetBlock(nn.Module):
    """What frames further and further away say, channel by channel, added to each frame."""

    def __init__(self, config: EcapaTrunkConfig, *, dilation: int) -> None:
        super().__init__()
        c, packed = config, config.packed
        self.tdnn1 = TDNNBlock(c.channels, c.channels, packed=packed)
        self.res2net_block = Res2NetBlock(c.channels, c.scale, dilation=dilation, packed=packed)
        self.tdnn2 = TDNNBlock(c.channels, c.channels, packed=packed)
        self.se_block = SEBlock(c.channels, c.bottleneck, packed=packed)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x))))


class AttentiveStatisticsPooling(nn.Module):
    """Mean and deviation over the frames that matter, which is judged beside those of all frames."""

    def __init__(self, channels: int, bottleneck: int, *, packed: bool) -> None:
        super().__init__()
        self.tdnn = TDNNBlock(3 * channels, bottleneck, packed=packed)
        self.conv = ReflectConv1d(bottleneck, channels, packed=packed)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frames) → (batch, 2 · channels, 1)."""
        even = torch.full_like(x[:, :1], 1 / x.shape[2])
        whole = torch.cat([s.expand_as(x) for s in _statistics(x, even)], dim=1)
        weight = self.conv(torch.tanh(self.tdnn(torch.cat([x, whole], dim=1)))).softmax(dim=2)
        return torch.cat(_statistics(x, weight), dim=1)


def _statistics(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    mean = (weight * x).sum(dim=2, keepdim=True)
    variance = (weight * (x - mean).square()).sum(dim=2, keepdim=True)
    return mean, variance.clamp(min=1e-12).sqrt()


class EcapaTrunk(nn.Module):
    """What `filterbank` gives → how somebody sounds: all that an ECAPA-TDNN gathers before it says who that is.

    Example:
        >>> import torch
        >>> EcapaTrunk(EcapaTrunkConfig(channels=16, bottleneck=8))(torch.randn(2, 80, 150)).shape
        torch.Size([2, 96])
    """

    def __init__(self, config: EcapaTrunkConfig) -> None:
        super().__init__()
        self.config = config
        channels, packed = config.channels, config.packed
        self.blocks = nn.ModuleList([TDNNBlock(BANDS, channels, kernel=5, packed=packed)])
        self.blocks.extend(SERes2NetBlock(config, dilation=dilation) for dilation in (2, 3, 4))
        self.mfa = TDNNBlock(3 * channels, 3 * channels, packed=packed)
        self.asp = AttentiveStatisticsPooling(3 * channels, config.bottleneck, packed=packed)
        self.asp_bn = FrozenBatchNorm(6 * channels)

    def forward(self, bands: Tensor) -> Tensor:
        """As `pooled_statistics`."""
        return self.pooled_statistics(bands)

    def pooled_statistics(self, bands: Tensor) -> Tensor:
        """dB (batch, 80, frames) at 100 frames per second → (batch, 6 · channels). Levels of bands do not count."""
        x = self.blocks[0](bands - bands.mean(dim=2, keepdim=True))
        heard = []
        for block in self.blocks[1:]:
            x = block(x)
            heard.append(x)
        return self.asp_bn(self.asp(self.mfa(torch.cat(heard, dim=1))))[:, :, 0]


class EcapaTDNN(EcapaTrunk):
    """What `filterbank` gives → who speaks: a vector that a dot product compares, once it is of unit length.

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
        """dB (batch, 80, frames) at 100 frames per second → (batch, latent). Levels of bands do not count."""
        return self.fc(self.pooled_statistics(bands)[:, :, None])[:, :, 0]


def load_ecapa(source: str | Path | None = None) -> EcapaTDNN:
    """The public network, of a folder with its checkpoint or of a repository; by default SpeechBrain's, of VoxCeleb.

    Raises:
        VcvaeError: nothing is found there, or something else.
    """
    file = fetch(source or REPOSITORY, CHECKPOINT, give="one of an ECAPA-TDNN of SpeechBrain")
    network = EcapaTDNN()
    weights = read_weights(file, of="an ECAPA-TDNN of SpeechBrain")
    load_weights(network, weights, path=file, config="the public checkpoint")
    return network.eval()
