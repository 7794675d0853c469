"""The discriminators of adversarial vocoder training. They are kept slim, as most of a step's cost is theirs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from vcvae.config import Config


class DiscriminatorOutput(NamedTuple):
    """Scores, and the layers' features on the way to them, of one discriminator after the other."""

    scores: list[Tensor]
    features: list[Tensor]


class DiscriminatorConfig(Config):
    """Sizes of the discriminators. About those of HiFi-GAN and Vocos are in `recipes/vocoder/large.yaml`."""

    periods: tuple[int, ...] = Field((2, 3, 5, 7, 11), description="samples; primes, so that they see little twice")
    period_channels: tuple[int, ...] = Field((8, 16, 32, 64), description="of each layer, strided by 3 in time")
    windows: tuple[int, ...] = Field((2048, 1024, 512), description="samples; the spectrograms' windows")
    spectrum_channels: tuple[int, ...] = Field((16, 16, 32, 32), description="of each layer")
    spectrum_strides: tuple[int, ...] = Field((4, 2, 2, 2), description="bins; of each layer, in frequency")


class PeriodDiscriminator(nn.Module):
    """Judges every `period`-th sample: what the others cannot see is the waveform's periodic pattern.

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
    """Judges complex spectra, their magnitudes compressed as loudness is.

    Several resolutions: Jang et al. 2021 (UnivNet, arXiv:2106.07889); complex spectra: Défossez et al. 2022 (EnCodec,
    arXiv:2210.13438).
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


class Discriminators(nn.ModuleList):
    """All of them."""

    def __init__(self, config: DiscriminatorConfig) -> None:
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
        """Samples (batch, samples) → what all of them say."""
        verdicts = [discriminator(samples) for discriminator in self]
        return DiscriminatorOutput([s for v in verdicts for s in v.scores], [f for v in verdicts for f in v.features])


def _run_layers(x: Tensor, layers: nn.ModuleList, score: nn.Module) -> DiscriminatorOutput:
    features = []
    x = x.to(memory_format=torch.channels_last)
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.1)
        features.append(x)
    return DiscriminatorOutput([score(x)], features)
