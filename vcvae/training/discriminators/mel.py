"""The discriminators of conversions: is this mel speech, and does it sound like that speaker?"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from vcvae.config import Config
from vcvae.models.layers import Convolution


class MelDiscriminatorConfig(Config):
    """Sizes of the discriminator."""

    channels: int = Field(192, gt=0, description="width of every layer")
    kernel: int = Field(5, gt=0, description="frames")
    strides: tuple[int, ...] = Field((2, 1, 2, 1), description="of each layer")


class MelDiscriminator(nn.Module):
    """Scores stretches of a mel, once for being speech and once more for being the speaker's.

    The two are the unconditional part and the inner product of Miyato & Koyama 2018 (arXiv:1802.05637). One that is
    shown true speech with a wrong speaker, too (Reed et al. 2016, arXiv:1605.05396), cannot ignore the second.
    """

    def __init__(self, config: MelDiscriminatorConfig, *, n_mels: int, speaker_latent: int) -> None:
        super().__init__()
        widths = [n_mels, *[config.channels] * len(config.strides)]
        self.layers = nn.ModuleList(
            Convolution(a, b, kernel=config.kernel, stride=stride)
            for a, b, stride in zip(widths, widths[1:], config.strides, strict=False)
        )
        self.speech = nn.Linear(config.channels, 1)
        self.speaker = nn.Linear(speaker_latent, config.channels)

    def features(self, mel: Tensor, valid_bands: Tensor) -> list[Tensor]:
        """Level-zero mels (batch, n_mels, frames), valid_bands bands (batch, n_mels) → each layer's (batch, …, channels)."""
        x = ((mel + 4.5) / 2 * valid_bands[..., None]).transpose(1, 2)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return features

    def score(self, features: list[Tensor], speaker: Tensor) -> Tensor:
        """What `features` gave, speaker latents (batch, speaker_latent) → scores (batch, …): 1 for true, 0 for not."""
        x = features[-1]
        return self.speech(x)[..., 0] + torch.einsum("btc,bc->bt", x, self.speaker(speaker)) / x.shape[-1] ** 0.5


class PatchCriticConfig(Config):
    """Sizes of the patch discriminator."""

    channels: tuple[int, ...] = Field((16, 32, 64, 128), description="of each layer")
    strides: tuple[tuple[int, int], ...] = Field(
        ((1, 2), (1, 2), (2, 2), (2, 2)), description="frames and bands, of each layer"
    )


class PatchDiscriminator(nn.Module):
    """Scores patches of a mel, some frames by some bands: it sees the grain that a discriminator of whole frames overlooks.

    The patches of Isola et al. 2017 (pix2pix, arXiv:1611.07004, section 3.2.2), judged as `MelDiscriminator` judges. A patch
    is told where in frequency it lies, and which of it is valid_bands.
    """

    def __init__(self, config: PatchCriticConfig, *, n_mels: int, speaker_latent: int) -> None:
        super().__init__()
        widths = [3, *config.channels]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, 5 if i == 0 else 3, stride, padding=2 if i == 0 else 1))
            for i, (a, b, stride) in enumerate(zip(widths, widths[1:], config.strides, strict=False))
        )
        self.speech = nn.Linear(config.channels[-1], 1)
        self.speaker = nn.Linear(speaker_latent, config.channels[-1])
        self.register_buffer("place", torch.linspace(-1, 1, n_mels), persistent=False)

    def features(self, mel: Tensor, valid_bands: Tensor) -> list[Tensor]:
        """Level-zero mels (batch, n_mels, frames), valid_bands bands (batch, n_mels) → each layer's (batch, channels, …)."""
        valid_bands = valid_bands[:, None, None].expand(-1, 1, mel.shape[2], -1)
        heard = (mel.transpose(1, 2)[:, None] + 4.5) / 2
        x = torch.cat([heard * valid_bands, self.place.expand_as(valid_bands), valid_bands], dim=1).to(
            memory_format=torch.channels_last
        )
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            features.append(x)
        return features

    def score(self, features: list[Tensor], speaker: Tensor) -> Tensor:
        """What `features` gave, speaker latents (batch, speaker_latent) → scores (batch, …): 1 for true, 0 for not."""
        x = features[-1].flatten(2)
        weight = self.speaker(speaker) / x.shape[1] ** 0.5
        return self.speech(x.transpose(1, 2))[..., 0] + torch.einsum("bcp,bc->bp", x, weight)
