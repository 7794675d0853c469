"""The encoder of Moonshine, a speech recognizer.

Jeffries et al. 2024 (arXiv:2410.15608); parameters have the names of the public checkpoints.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.models.hub import WEIGHTS, build, fetch, read_weights

MOONSHINE_REPOSITORY = "UsefulSensors/moonshine-tiny"
MOONSHINE_SAMPLE_RATE = 16000  # Hz
MIN_SAMPLES = 895  # receptive field of one output frame
MOONSHINE_HOP = 384  # samples between two output frames
ROTARY_FRACTION = 0.9  # largest share of a head's dimensions that have rotary position embeddings


class MoonshineConfig(Config):
    """The sizes of the encoder; the defaults are those of the smallest public checkpoint."""

    channels: int = Field(288, gt=0, le=4096, description="width of the encoder")
    heads: int = Field(8, gt=0, le=64, description="of the attention")
    layers: int = Field(6, ge=0, le=64, description="of the encoder")

    @model_validator(mode="after")
    def _holds_together(self) -> MoonshineConfig:
        if self.channels % self.heads:
            raise ValueError("heads must divide channels")
        return self


class Norm(nn.Module):
    """Layer normalization over the channels of (batch, channels, frames), without a bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.mT, self.weight.shape, self.weight).mT


class Attention(nn.Module):
    """Self-attention with rotary position embeddings (RoPE, Su et al. 2021, arXiv:2104.09864)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Conv1d(channels, channels, 1)
        self.k_proj = nn.Conv1d(channels, channels, 1)
        self.v_proj = nn.Conv1d(channels, channels, 1)
        self.o_proj = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query = apply_rotary(self._split_heads(self.q_proj(x)))
        key = apply_rotary(self._split_heads(self.k_proj(x)))
        value = self._split_heads(self.v_proj(x)).contiguous()  # attention is a quarter quicker so
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.o_proj(attended.mT.flatten(1, 2))

    def _split_heads(self, x: Tensor) -> Tensor:
        """(batch, channels, frames) → (batch, heads, frames, channels / heads)."""
        return x.unflatten(1, (self.heads, -1)).mT


def apply_rotary(x: Tensor) -> Tensor:
    """Rotate pairs of dimensions of x (…, frames, dimensions) by angles proportional to the frame's index."""
    pairs = int(ROTARY_FRACTION * x.shape[-1]) // 2
    frequency = 10000.0 ** (-torch.arange(pairs, device=x.device) / pairs)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * frequency
    a = x[..., 0 : 2 * pairs : 2]
    b = x[..., 1 : 2 * pairs : 2]
    rotated = torch.stack([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)
    return torch.cat([rotated.flatten(-2), x[..., 2 * pairs :]], dim=-1)


class FeedForward(nn.Module):
    """Two layers applied to each frame, (batch, channels, frames)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv1d(channels, 4 * channels, 1)
        self.fc2 = nn.Conv1d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer: attention and feed-forward, each with a residual, (batch, channels, frames)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.input_layernorm = Norm(channels)
        self.post_attention_layernorm = Norm(channels)
        self.self_attn = Attention(channels, heads)
        self.mlp = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class MoonshineEncoder(nn.Module):
    """Samples at 16 kHz → features, 41.7 frames per second.

    Example:
        >>> import torch
        >>> MoonshineEncoder(MoonshineConfig(channels=16, heads=2, layers=1))(torch.randn(2, 16000)).shape
        torch.Size([2, 16, 40])
    """

    def __init__(self, config: MoonshineConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or MoonshineConfig()
        self.conv1 = nn.Conv1d(1, c.channels, 127, stride=64)
        self.groupnorm = nn.GroupNorm(1, c.channels)
        self.conv2 = nn.Conv1d(c.channels, 2 * c.channels, 7, stride=3)
        self.conv3 = nn.Conv1d(2 * c.channels, c.channels, 3, stride=2)
        self.layers = nn.ModuleList(EncoderLayer(c.channels, c.heads) for _ in range(c.layers))

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples) → (batch, channels, 1 + (samples - 895) // 384), each frame of mean 0 and variance 1.

        Less than 895 samples are padded with zeros.
        """
        x = F.pad(samples, (0, max(0, MIN_SAMPLES - samples.shape[1])))
        x = self.groupnorm(self.conv1(x[:, None]).tanh())
        x = F.gelu(self.conv3(F.gelu(self.conv2(x))))
        for layer in self.layers:
            x = layer(x)
        return F.layer_norm(x.mT, x.shape[1:2]).mT


def load_moonshine(source: str | Path | None = None) -> MoonshineEncoder:
    """The encoder of a public checkpoint, of a folder or of a repository; by default Useful Sensors' smallest.

    Raises:
        VcvaeError: there is no checkpoint, or it is not one of such a network.
    """
    file = fetch(source or MOONSHINE_REPOSITORY, WEIGHTS, give="one of a Moonshine of Useful Sensors")
    prefix = "model.encoder."
    with torch.device("meta"):
        expected = MoonshineEncoder().state_dict()
    weights = {name: torch.zeros(x.shape) for name, x in expected.items() if name.endswith("bias")}
    for name, x in read_weights(file).items():
        # The scale of the last normalization is left out: features have variance 1.
        if name.startswith(prefix) and name != f"{prefix}layer_norm.weight":
            weights[name.removeprefix(prefix)] = x[..., None].float() if x.ndim == 2 else x.float()
    return build(MoonshineEncoder, weights, path=file, config="the smallest public checkpoint")
