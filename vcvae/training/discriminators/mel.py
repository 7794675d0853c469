"""Discriminators of mels, conditioned on the speaker: for the conversion model and for its postfilter."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vcvae.config import Config
from vcvae.features.mel import standardize
from vcvae.models.layers import Convolution
from vcvae.training.discriminators.layers import layer_outputs

Stride = Annotated[int, Field(gt=0, le=16)]


class MelDiscriminatorConfig(Config):
    """Sizes of `MelDiscriminator`."""

    channels: int = Field(192, gt=0, le=1024, description="channels of every layer")
    kernel: int = Field(5, gt=0, le=63, description="kernel size, frames")
    strides: tuple[Stride, ...] = Field(
        (2, 1, 2, 1), min_length=1, max_length=16, description="stride of each layer, frames"
    )


class MelDiscriminator(nn.Module):
    """Projection discriminator of groups of mel frames: an unconditional score plus one for the speaker.

    The sum of a linear output and an inner product with the speaker embedding (Miyato & Koyama 2018, arXiv:1802.05637).
    Real mels with the wrong speaker should be among its fakes (Reed et al. 2016, arXiv:1605.05396), so that it cannot
    ignore the speaker.
    """

    def __init__(self, config: MelDiscriminatorConfig, *, n_mels: int, speaker_latent: int) -> None:
        super().__init__()
        widths = [n_mels, *[config.channels] * len(config.strides)]
        self.layers = nn.ModuleList(
            Convolution(a, b, kernel=config.kernel, stride=stride)
            for a, b, stride in zip(widths, widths[1:], config.strides, strict=False)
        )
        self.unconditional = nn.Linear(config.channels, 1)
        self.projection = nn.Linear(speaker_latent, config.channels)

    def features(self, mel: Tensor, valid_bands: Tensor) -> list[Tensor]:
        """Level-normalized log-mels (batch, n_mels, frames), valid bands (batch, n_mels) → features.

        One tensor for each layer, (batch, frames / strides so far, channels).
        """
        return layer_outputs(self.layers, (standardize(mel) * valid_bands[..., None]).transpose(1, 2))

    def score(self, features: list[Tensor], speaker: Tensor) -> Tensor:
        """Output of `features`, speaker embeddings (batch, speaker_latent) → scores (batch, …); 1 is real, 0 fake."""
        x = features[-1]
        return (
            self.unconditional(x)[..., 0] + torch.einsum("btc,bc->bt", x, self.projection(speaker)) / x.shape[-1] ** 0.5
        )


class PatchDiscriminatorConfig(Config):
    """Sizes of `PatchDiscriminator`."""

    channels: tuple[Annotated[int, Field(gt=0, le=1024)], ...] = Field(
        (16, 32, 64, 128), min_length=1, max_length=16, description="channels of each layer"
    )
    strides: tuple[tuple[Stride, Stride], ...] = Field(
        ((1, 2), (1, 2), (2, 2), (2, 2)),
        min_length=1,
        max_length=16,
        description="stride of each layer, (frames, bands)",
    )

    @model_validator(mode="after")
    def _goes_in_pairs(self) -> PatchDiscriminatorConfig:
        if len(self.channels) != len(self.strides):
            raise ValueError("channels and strides must have the same length, one for each layer")
        return self


class PatchDiscriminator(nn.Module):
    """Projection discriminator of patches of a mel, a few frames by a few bands, for its fine detail.

    Patches as in pix2pix (Isola et al. 2017, arXiv:1611.07004, section 3.2.2), scores as in `MelDiscriminator`. The
    position in frequency and the valid bands are further input channels.
    """

    def __init__(self, config: PatchDiscriminatorConfig, *, n_mels: int, speaker_latent: int) -> None:
        super().__init__()
        widths = [3, *config.channels]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, 5 if i == 0 else 3, stride, padding=2 if i == 0 else 1))
            for i, (a, b, stride) in enumerate(zip(widths, widths[1:], config.strides, strict=False))
        )
        self.unconditional = nn.Linear(config.channels[-1], 1)
        self.projection = nn.Linear(speaker_latent, config.channels[-1])
        self.register_buffer("frequency", torch.linspace(-1, 1, n_mels), persistent=False)

    def features(self, mel: Tensor, valid_bands: Tensor) -> list[Tensor]:
        """Level-normalized log-mels (batch, n_mels, frames), valid bands (batch, n_mels) → features.

        One tensor for each layer, (batch, channels, frames / strides so far, bands / strides so far).
        """
        valid = valid_bands[:, None, None].expand(-1, 1, mel.shape[2], -1)
        standardized = standardize(mel.transpose(1, 2)[:, None])
        x = torch.cat([standardized * valid, self.frequency.expand_as(valid), valid], dim=1)
        return layer_outputs(self.layers, x.to(memory_format=torch.channels_last))

    def score(self, features: list[Tensor], speaker: Tensor) -> Tensor:
        """Output of `features`, speaker embeddings (batch, speaker_latent) → scores (batch, …); 1 is real, 0 fake."""
        x = features[-1].flatten(2)
        weight = self.projection(speaker) / x.shape[1] ** 0.5
        return self.unconditional(x.transpose(1, 2))[..., 0] + torch.einsum("bcp,bc->bp", x, weight)
