"""What the median of all that could be heard lacks: the postfilter of speech."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.features.mel import standardize
from vcvae.models.layers import AdaptiveInstanceNorm, Mask, ResidualBlock, masked

NOISE = 16  # numbers that a frame draws
PERIOD = 4096  # frames after which the draws repeat: 48 s


class Postfilter(nn.Module):
    """Adds to a mel what cannot be foretold, only drawn: the grain of each voice, frame by frame.

    A decoder trained with L1 gives medians, and a median of speech is no speech: too smooth in time and in frequency.
    A second network that draws noise and must pass for speech before a critic puts the rest back, as the adversarial
    postfilter of Kaneko et al. 2017 (doi:10.1109/ICASSP.2017.7953090) does. In evaluation the draws are always the
    same, so that a mel has one conversion.

    Example:
        >>> import torch
        >>> postfilter = Postfilter(80, features=192, condition=256, channels=160, blocks=3, kernel=3)
        >>> median, moved = torch.randn(2, 2, 101, 80)
        >>> postfilter(median, moved, torch.randn(2, 51, 192), torch.randn(2, 256)).shape
        torch.Size([2, 101, 80])
    """

    def __init__(self, n_mels: int, *, features: int, condition: int, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.input = nn.Linear(2 * n_mels, channels)
        self.expand = nn.Linear(features, 2 * channels)
        self.noise_input = nn.Linear(NOISE, channels)
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, kernel=kernel, norm=AdaptiveInstanceNorm(channels, condition))
            for _ in range(blocks)
        )
        self.norm = AdaptiveInstanceNorm(channels, condition)
        self.head = nn.Linear(channels, n_mels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        noise = torch.randn(PERIOD, NOISE, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, median: Tensor, moved: Tensor, features: Tensor, style: Tensor, mask: Mask = None) -> Tensor:
        """Medians and the same with the source's modulation (batch, frames, n_mels) → the latter with postfilter.

        Features (batch, ceil(frames / 2), features) and style (batch, condition) are the decoder's.
        """
        batch, frames, _ = median.shape
        if self.training:
            noise = torch.randn(batch, frames, NOISE, device=median.device)
        else:
            noise = self.noise[torch.arange(frames, device=median.device) % PERIOD]
        told = self.expand(features).reshape(batch, -1, self.input.out_features)[:, :frames]
        x = masked(self.input(standardize(torch.cat([median, moved], dim=2))) + told + self.noise_input(noise), mask)
        for block in self.blocks:
            x = block(x, mask, style)
        return masked(moved + self.head(F.gelu(self.norm(x, mask, style))), mask)
