"""Discriminators of waveforms, for vocoder training. They are small, because they dominate the cost of a step."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from vcvae.config import Config
from vcvae.training.discriminators.layers import layer_outputs


class DiscriminatorOutput(NamedTuple):
    """Scores of each discriminator, and feature maps of all their layers, in order."""

    scores: list[Tensor]
    features: list[Tensor]


Channels = Annotated[tuple[Annotated[int, Field(gt=0, le=1024)], ...], Field(min_length=1, max_length=16)]
Periods = Annotated[tuple[Annotated[int, Field(gt=0, le=64)], ...], Field(min_length=1, max_length=16)]
Windows = Annotated[tuple[Annotated[int, Field(ge=16, le=65_536)], ...], Field(min_length=1, max_length=16)]
Strides = Annotated[tuple[Annotated[int, Field(gt=0, le=16)], ...], Field(min_length=1, max_length=16)]


class WaveformDiscriminatorConfig(Config):
    """Sizes of the discriminators. `recipes/vocoder/large.yaml` has about those of HiFi-GAN and Vocos."""

    periods: Periods = Field((2, 3, 5, 7, 11), description="periods in samples; primes, which overlap least")
    period_channels: Channels = Field((8, 16, 32, 64), description="channels of each layer of a period discriminator")
    windows: Windows = Field((2048, 1024, 512), description="window lengths of the spectrograms, samples")
    spectrum_channels: Channels = Field(
        (16, 16, 32, 32), description="channels of each layer of a spectrum discriminator"
    )
    spectrum_strides: Strides = Field((4, 2, 2, 2), description="stride of each of these layers, bins")

    @model_validator(mode="after")
    def _goes_in_pairs(self) -> WaveformDiscriminatorConfig:
        if len(self.spectrum_channels) != len(self.spectrum_strides):
            raise ValueError("spectrum_channels and spectrum_strides must have the same length, one for each layer")
        return self


class PeriodDiscriminator(nn.Module):
    """Multi-period discriminator for one period: convolutions over every `period`-th sample.

    Kong et al. 2020 (HiFi-GAN, arXiv:2010.05646), section 2.3.
    """

    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), padding=(2, 0)))
            for a, b in zip((1, *channels), channels, strict=False)
        )
        self.score = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, samples: Tensor) -> DiscriminatorOutput:
        """Samples (batch, samples) → scores and features."""
        padded = F.pad(samples[:, None], (0, -samples.shape[-1] % self.period), mode="reflect")
        return _run_layers(padded.unflatten(2, (-1, self.period)), self.layers, self.score)


class SpectrumDiscriminator(nn.Module):
    """Discriminator of complex spectra for one window length, with magnitudes compressed by a power of 0.3.

    Several resolutions as in UnivNet (Jang et al. 2021, arXiv:2106.07889); complex spectra as in EnCodec (Défossez et
    al. 2022, arXiv:2210.13438).
    """

    def __init__(self, window: int, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (3, 2 * stride + 1), (1, stride), padding=(1, stride)))
            for a, b, stride in zip((2, *channels), channels, strides, strict=False)
        )
        self.score = weight_norm(nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, samples: Tensor) -> DiscriminatorOutput:
        """Samples (batch, samples) → scores and features."""
        length = len(self.window)
        spectra = torch.stft(samples, length, length // 4, window=self.window, return_complex=True)
        parts = torch.view_as_real(spectra).permute(0, 3, 2, 1)  # (batch, 2, frames, bins)
        return _run_layers(parts * (parts.square().sum(dim=1, keepdim=True) + 1e-6).pow(-0.35), self.layers, self.score)


class WaveformDiscriminators(nn.ModuleList):
    """All period and spectrum discriminators of a configuration."""

    def __init__(self, config: WaveformDiscriminatorConfig) -> None:
        super().__init__(
            [
                *(PeriodDiscriminator(period, config.period_channels) for period in config.periods),
                *(
                    SpectrumDiscriminator(window, config.spectrum_channels, config.spectrum_strides)
                    for window in config.windows
                ),
            ]
        )

    def forward(self, samples: Tensor) -> DiscriminatorOutput:
        """Samples (batch, samples) → scores and features of all discriminators."""
        outputs = [discriminator(samples) for discriminator in self]
        scores = [score for output in outputs for score in output.scores]
        features = [feature for output in outputs for feature in output.features]
        return DiscriminatorOutput(scores, features)


def _run_layers(x: Tensor, layers: nn.ModuleList, score: nn.Module) -> DiscriminatorOutput:
    features = layer_outputs(layers, x.to(memory_format=torch.channels_last))
    return DiscriminatorOutput([score(features[-1])], features)
