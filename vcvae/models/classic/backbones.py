"""The backbones of auto-encoders, for frames, images and vectors.

Each kind is an encoder and a decoder. An encoder maps x to `outputs` statistics for every position of the code; a
decoder maps a code to `outputs` statistics for every element of an x of a given shape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcvae.models.layers import Convolution, FrameNorm, ResidualBlock


def _blocks(count: int, channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, kernel=kernel, norm=FrameNorm(channels)) for _ in range(count)))


class FrameEncoder(nn.Module):
    """x (batch, inputs, frames) → (batch, outputs, ceil(frames / 4)).

    A linear path runs beside the network, here and in `FrameDecoder`. It starts as a principal component analysis (see
    `initialize_with_principal_components`), to which the network adds.
    """

    def __init__(self, inputs: int, outputs: int, *, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.linear = Convolution(inputs, outputs, kernel=4, stride=4)
        self.layers = nn.Sequential(
            Convolution(inputs, channels, kernel=5, stride=2),
            *_blocks(blocks, channels, kernel),
            Convolution(channels, channels, kernel=4, stride=2),
            *_blocks(blocks, channels, kernel),
            FrameNorm(channels),
            nn.Linear(channels, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.linear(x.mT) + self.layers(x.mT)).mT


class FrameDecoder(nn.Module):
    """A code (batch, latent, ceil(frames / 4)) → `outputs` times (batch, inputs, frames)."""

    def __init__(self, inputs: int, latent: int, outputs: int, *, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent, 4 * outputs * inputs)
        self.slow = nn.Sequential(Convolution(latent, channels, kernel=3), *_blocks(blocks, channels, kernel))
        self.expand = nn.Linear(channels, 2 * channels)
        self.fast = nn.Sequential(*_blocks(blocks, channels, kernel), FrameNorm(channels), nn.GELU())
        self.head = nn.Linear(channels, 2 * outputs * inputs)
        self.channels, self.outputs = channels, outputs

    def forward(self, code: Tensor, shape: torch.Size) -> tuple[Tensor, ...]:
        frames, batch = shape[-1], len(code)
        x = self.expand(self.slow(code.mT)).reshape(batch, -1, self.channels)[:, : -(-frames // 2)]
        nonlinear = self.head(self.fast(x)).reshape(batch, -1, self.outputs, shape[1])[:, :frames]
        linear = self.linear(code.mT).reshape(batch, -1, self.outputs, shape[1])[:, :frames]
        return (nonlinear + linear).permute(2, 0, 3, 1).unbind(0)


@torch.no_grad()
def initialize_with_principal_components(encoder: FrameEncoder, decoder: FrameDecoder, x: Tensor) -> None:
    """Set the linear path to the principal components of x (batch, inputs, frames), and the networks' outputs to zero.

    By gradient descent, the last components of a wide code take longer to learn than most trainings last.
    """
    positions = x[:, :, : x.shape[2] // 4 * 4].mT.reshape(-1, 4 * x.shape[1]).cpu().double()
    mean = positions.mean(dim=0)
    axes = torch.linalg.eigh(torch.cov(positions.T)).eigenvectors.flip(1)  # by falling variance
    analysis, synthesis = encoder.linear.linear, decoder.linear
    kept = axes[:, : analysis.out_features].to(x)
    for layer in (encoder.layers[-1], decoder.head, synthesis):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    analysis.weight[: kept.shape[1]] = kept.T
    analysis.bias[: kept.shape[1]] = -(mean.to(x) @ kept)
    synthesis.weight[:, : kept.shape[1]] = kept
    synthesis.bias.copy_(mean)


class ImageEncoder(nn.Module):
    """x (batch, inputs, height, width) → (batch, outputs, ceil(height / 4), ceil(width / 4))."""

    def __init__(self, inputs: int, outputs: int, *, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(inputs, channels, 3, stride=2, padding=1), nn.GELU()]
        layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.GELU()]
        for _ in range(blocks):
            layers += [nn.Conv2d(channels, channels, kernel, padding="same"), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ImageDecoder(nn.Module):
    """A code (batch, latent, ceil(height / 4), ceil(width / 4)) → `outputs` times (batch, inputs, height, width)."""

    def __init__(self, inputs: int, latent: int, outputs: int, *, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(latent, channels, 1), nn.GELU()]
        for _ in range(blocks):
            layers += [nn.Conv2d(channels, channels, kernel, padding="same"), nn.GELU()]
        layers += [nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels, outputs * inputs, 4, stride=2, padding=1))
        self.outputs = outputs

    def forward(self, code: Tensor, shape: torch.Size) -> tuple[Tensor, ...]:
        return self.layers(code)[..., : shape[-2], : shape[-1]].chunk(self.outputs, dim=1)


class VectorEncoder(nn.Module):
    """x (batch, inputs) → (batch, outputs)."""

    def __init__(self, inputs: int, outputs: int, *, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.layers = _perceptron(inputs, outputs, channels, blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class VectorDecoder(nn.Module):
    """A code (batch, latent) → `outputs` times (batch, inputs)."""

    def __init__(self, inputs: int, latent: int, outputs: int, *, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.layers = _perceptron(latent, outputs * inputs, channels, blocks)
        self.outputs = outputs

    def forward(self, code: Tensor, shape: torch.Size) -> tuple[Tensor, ...]:
        return self.layers(code).chunk(self.outputs, dim=1)


def _perceptron(inputs: int, outputs: int, channels: int, blocks: int) -> nn.Sequential:
    layers, width = [], inputs
    for _ in range(blocks):
        layers += [nn.Linear(width, channels), nn.GELU()]
        width = channels
    return nn.Sequential(*layers, nn.Linear(width, outputs))


BACKBONES = {
    "frames": (FrameEncoder, FrameDecoder),
    "image": (ImageEncoder, ImageDecoder),
    "vector": (VectorEncoder, VectorDecoder),
}
