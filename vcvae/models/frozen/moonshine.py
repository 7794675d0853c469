"""The encoder of Moonshine, a speech recognizer.

Jeffries et al. 2024 (arXiv:2410.15608); the names of parts are those of its public checkpoints.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.models.hub import WEIGHTS, fetch, load_weights

SAMPLE_RATE = 16000  # Hz
FEWEST = 895  # samples from which a frame can be read; the next one is 384 later
ROTATED = 0.9  # of a head's dimensions, at most, those that are turned with time
REPOSITORY = "UsefulSensors/moonshine-tiny"


class MoonshineConfig(Config):
    """The sizes of the encoder; the defaults are those of the smallest public checkpoint."""

    channels: int = Field(288, gt=0, description="width of the encoder")
    heads: int = Field(8, gt=0, description="of the attention")
    layers: int = Field(6, ge=0, description="of the encoder")


class Norm(nn.Module):
    """A layer normalization over channels, (batch, channels, frames)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.mT, self.weight.shape, self.weight).mT


class Attention(nn.Module):
    """Each frame looks at all others, at how far they are from it (Su et al. 2021, arXiv:2104.09864)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Conv1d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            projection(x).unflatten(1, (self.heads, -1)).mT for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        found = F.scaled_dot_product_attention(_turned(query), _turned(key), value)
        return self.o_proj(found.mT.flatten(1, 2))


def _turned(x: Tensor) -> Tensor:
    """(…, frames, dimensions): pairs of dimensions are turned by angles that grow with time."""
    pairs = int(ROTATED * x.shape[-1]) // 2
    speed = 10000.0 ** (-torch.arange(pairs, device=x.device) / pairs)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * speed
    a, b = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
    turned = torch.stack([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)
    return torch.cat([turned.flatten(-2), x[..., 2 * pairs :]], dim=-1)


class FeedForward(nn.Module):
    """Each frame by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv1d(channels, 4 * channels, 1), nn.Conv1d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class EncoderLayer(nn.Module):
    """What other frames say, then what follows from it, added to each frame (batch, channels, frames)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(channels), Norm(channels)
        self.self_attn = Attention(channels, heads)
        self.mlp = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class MoonshineEncoder(nn.Module):
    """Samples at 16 kHz → what is said, 41.7 times a second.

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

        Shorter sounds are filled up with silence. How loud it is does not count.
        """
        x = F.pad(samples, (0, max(0, FEWEST - samples.shape[1])))
        x = self.groupnorm(self.conv1(x[:, None]).tanh())
        x = F.gelu(self.conv3(F.gelu(self.conv2(x))))
        for layer in self.layers:
            x = layer(x)
        return F.layer_norm(x.mT, x.shape[1:2]).mT


def load_moonshine(source: str | Path | None = None) -> MoonshineEncoder:
    """The public encoder, of a folder or a repository; by default Useful Sensors', the smallest.

    Raises:
        VcvaeError: nothing is found there, or something else.
    """
    file = fetch(source or REPOSITORY, WEIGHTS, give="one of a Moonshine of Useful Sensors")
    network = MoonshineEncoder()
    prefix = "model.encoder."
    try:
        found = {name.removeprefix(prefix): x for name, x in load_file(file).items() if name.startswith(prefix)}
    except (SafetensorError, OSError) as error:
        raise VcvaeError(f"{file}: not weights in safetensors' format ({str(error).splitlines()[0]}).") from None
    weights = {name: torch.zeros_like(x) for name, x in network.state_dict().items() if name.endswith("bias")}
    found.pop("layer_norm.weight", None)  # frames are left at variance 1
    weights |= {name: x[..., None].float() if x.ndim == 2 else x.float() for name, x in found.items()}
    load_weights(network, weights, path=file, config="the smallest public checkpoint")
    return network.eval()
