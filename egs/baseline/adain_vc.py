"""AdaIN-VC, the baseline: one-shot voice conversion by instance normalization (Chou et al. 2019, arXiv:1904.05742).

Written after the paper, with the published sizes; only the number of bands may differ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, BANK, BLOCKS = 128, 8, 6
REDUCTION = 8  # mel frames per frame of the content


def reflected(x: Tensor, layer: nn.Conv1d) -> Tensor:
    """The layer applied to x (batch, channels, frames), padded by reflection."""
    kernel = layer.kernel_size[0]
    return layer(F.pad(x, (kernel // 2, kernel // 2 - 1 + kernel % 2), mode="reflect"))


class Encoder(nn.Module):
    """Mel (batch, bands, frames) → features (batch, WIDTH, frames / REDUCTION), of content if they are normalized."""

    def __init__(self, bands: int, *, normalize: bool) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm1d(WIDTH) if normalize else nn.Identity()
        self.bank = nn.ModuleList(nn.Conv1d(bands, WIDTH, k) for k in range(1, BANK + 1))
        self.stem = nn.Conv1d(BANK * WIDTH + bands, WIDTH, 1)
        self.first = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 5) for _ in range(BLOCKS))
        self.second = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 5, stride=1 + i % 2) for i in range(BLOCKS))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([*(F.relu(reflected(x, conv)) for conv in self.bank), x], dim=1)
        x = F.relu(self.norm(self.stem(x)))
        for first, second in zip(self.first, self.second, strict=True):
            y = F.relu(self.norm(reflected(x, first)))
            y = F.relu(self.norm(reflected(y, second)))
            x = y + (F.avg_pool1d(x, 2, ceil_mode=True) if second.stride[0] == 2 else x)
        return x


class AdaINVC(nn.Module):
    """Content of one mel and speaker of another → a mel; frames are a multiple of `REDUCTION`."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.content, self.speaker = Encoder(bands, normalize=True), Encoder(bands, normalize=False)
        self.mean = nn.Conv1d(WIDTH, WIDTH, 1)
        self.log_variance = nn.Conv1d(WIDTH, WIDTH, 1)
        self.dense = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(BLOCKS)
        )
        self.embedding = nn.Linear(WIDTH, WIDTH)
        self.stem, self.norm = nn.Conv1d(WIDTH, WIDTH, 1), nn.InstanceNorm1d(WIDTH)
        self.first = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 5) for _ in range(BLOCKS))
        self.second = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH * (2 - i % 2), 5) for i in range(BLOCKS))
        self.affine = nn.ModuleList(nn.Linear(WIDTH, 2 * WIDTH) for _ in range(2 * BLOCKS))
        self.head = nn.Conv1d(WIDTH, bands, 1)

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Standardized mels (batch, bands, frames) → the conversion, and mean and log-variance of the content."""
        hidden = self.content(source)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        speaker = self.speaker(target).mean(dim=2)
        for dense in self.dense:
            speaker = speaker + dense(speaker)
        speaker = self.embedding(speaker)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean) if self.training else mean
        x = F.relu(self.norm(self.stem(z)))
        for i, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            y = self.adapt(reflected(x, first), speaker, 2 * i)
            y = reflected(y, second)
            if second.out_channels > WIDTH:
                y = y.reshape(len(y), WIDTH, 2, -1).transpose(2, 3).flatten(2)
                x = F.interpolate(x, scale_factor=2.0)
            x = x + self.adapt(y, speaker, 2 * i + 1)
        return self.head(x), mean, log_variance

    def adapt(self, x: Tensor, speaker: Tensor, i: int) -> Tensor:
        scale, shift = self.affine[i](speaker)[:, :, None].chunk(2, dim=1)
        return F.relu(self.norm(x) * scale + shift)
