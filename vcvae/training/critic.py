"""The critic of conversions: is this mel speech, and does it sound like that speaker?"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.models.layers import Convolution


class CriticConfig(Config):
    """Sizes of the critic."""

    channels: int = Field(192, gt=0, description="width of every layer")
    kernel: int = Field(5, gt=0, description="frames")
    strides: tuple[int, ...] = Field((2, 1, 2, 1), description="of each layer")


class MelCritic(nn.Module):
    """Scores stretches of a mel, once for being speech and once more for being the speaker's.

    The two are the unconditional part and the inner product of Miyato & Koyama 2018 (arXiv:1802.05637). One that is
    shown true speech with a wrong speaker, too (Reed et al. 2016, arXiv:1605.05396), cannot ignore the second.
    """

    def __init__(self, config: CriticConfig, *, n_mels: int, speaker_latent: int) -> None:
        super().__init__()
        widths = [n_mels, *[config.channels] * len(config.strides)]
        self.layers = nn.ModuleList(
            Convolution(a, b, kernel=config.kernel, stride=stride)
            for a, b, stride in zip(widths, widths[1:], config.strides, strict=False)
        )
        self.speech = nn.Linear(config.channels, 1)
        self.speaker = nn.Linear(speaker_latent, config.channels)

    def hear(self, mel: Tensor, known: Tensor) -> list[Tensor]:
        """Level-zero mels (batch, n_mels, frames), known bands (batch, n_mels) → each layer's (batch, …, channels)."""
        x = ((mel + 4.5) / 2 * known[..., None]).transpose(1, 2)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return features

    def judge(self, features: list[Tensor], speaker: Tensor) -> Tensor:
        """What `hear` gave, speaker latents (batch, speaker_latent) → scores (batch, …): 1 for true, 0 for not."""
        x = features[-1]
        return self.speech(x)[..., 0] + torch.einsum("btc,bc->bt", x, self.speaker(speaker)) / x.shape[-1] ** 0.5
