"""The postfilter of the decoder: a noise-driven network that adds the fine detail which an L1 decoder averages out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.features.mel import standardize
from vcvae.models.layers import AdaptiveInstanceNorm, AdaptiveResidualBlock, Mask, masked

POSTFILTER_NOISE = 16  # dimensions of the noise of a frame
NOISE_PERIOD = 4096  # frames after which the noise of evaluation repeats: 48 s


class Postfilter(nn.Module):
    """Adds to a mel the fine detail which an L1-trained decoder averages out; a network driven by noise.

    A decoder trained with L1 gives medians, which are smoother than speech in time and in frequency. A GAN postfilter
    adds what is missing, as in Kaneko et al. 2017 (doi:10.1109/ICASSP.2017.7953090). In evaluation the noise is
    constant, so that a mel has one conversion. A new postfilter adds zero.

    Example:
        >>> import torch
        >>> postfilter = Postfilter(80, features=192, condition=256, channels=160, blocks=3, kernel=3, rank=0)
        >>> decoded, modulated = torch.randn(2, 2, 101, 80)
        >>> postfilter(decoded, modulated, torch.randn(2, 51, 192), torch.randn(2, 256)).shape
        torch.Size([2, 101, 80])
    """

    def __init__(
        self, n_mels: int, *, features: int, condition: int, channels: int, blocks: int, kernel: int, rank: int
    ) -> None:
        super().__init__()
        self.input = nn.Linear(2 * n_mels, channels)
        self.expand = nn.Linear(features, 2 * channels)
        self.noise_input = nn.Linear(POSTFILTER_NOISE, channels)
        self.blocks = nn.ModuleList(
            AdaptiveResidualBlock(channels, kernel=kernel, condition=condition, rank=rank) for _ in range(blocks)
        )
        self.norm = AdaptiveInstanceNorm(channels, condition)
        self.head = nn.Linear(channels, n_mels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(NOISE_PERIOD, POSTFILTER_NOISE, generator=generator, device="cpu")
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, decoded: Tensor, modulated: Tensor, features: Tensor, style: Tensor, mask: Mask = None) -> Tensor:
        """Two mels at level zero, (batch, frames, n_mels) → the second with fine detail.

        Args:
            decoded: the decoder's mel.
            modulated: the same with the source's envelope modulation.
            features: of the decoder's last layer, (batch, ceil(frames / 2), features).
            style: of the speaker, (batch, condition).
            mask: (batch, frames, 1).
        """
        batch, frames, _ = decoded.shape
        if self.training:
            noise = torch.randn(batch, frames, POSTFILTER_NOISE, device=decoded.device)
        else:
            noise = self.noise[torch.arange(frames, device=decoded.device) % NOISE_PERIOD]
        expanded = self.expand(features).reshape(batch, -1, self.input.out_features)[:, :frames]
        mels = standardize(torch.cat([decoded, modulated], dim=2))
        x = masked(self.input(mels) + expanded + self.noise_input(noise), mask)
        for block in self.blocks:
            x = block(x, mask, style)
        return masked(modulated + self.head(F.gelu(self.norm(x, mask, style))), mask)
