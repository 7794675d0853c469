"""The generator of HiFi-GAN (Kong, Kim and Bae 2020, arXiv:2010.05646), for its public checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.documents import read_json
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.models.hub import build, read_checkpoint
from vcvae.vocoder.base import Vocoder

MAX_LAYERS = 16
Rates = Annotated[tuple[Annotated[int, Field(gt=0, le=512)], ...], Field(min_length=1, max_length=MAX_LAYERS)]
Kernels = Annotated[tuple[Annotated[int, Field(gt=0, le=1024)], ...], Field(min_length=1, max_length=MAX_LAYERS)]
Dilations = Annotated[tuple[Annotated[int, Field(gt=0, le=512)], ...], Field(min_length=1, max_length=MAX_LAYERS)]


class HiFiGANConfig(Config):
    """The keys of the authors' config.json that the generator depends on; the defaults are V1's."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # the other keys are for training
    family: ClassVar[str] = "HiFi-GAN"

    resblock: Literal["1", "2"] = Field("1", description="'1': pairs of convolutions (V1, V2); '2': single ones (V3)")
    upsample_rates: Rates = Field((8, 8, 2, 2), description="their product is hop_size")
    upsample_kernel_sizes: Kernels = Field((16, 16, 4, 4), description="one per rate")
    upsample_initial_channel: int = Field(512, gt=0, le=8192, description="halved by every upsampling")
    resblock_kernel_sizes: Kernels = Field((3, 7, 11), description="residual blocks side by side")
    resblock_dilation_sizes: tuple[Dilations, ...] = Field(
        ((1, 3, 5),) * 3, min_length=1, max_length=MAX_LAYERS, description="a tuple per block"
    )
    num_mels: int = Field(80, gt=0, le=1024, description="mel bands")
    n_fft: int = Field(1024, gt=0, le=65_536, description="samples")
    hop_size: int = Field(256, gt=0, le=65_536, description="samples")
    win_size: int = Field(1024, gt=0, le=65_536, description="samples")
    sampling_rate: int = Field(22050, gt=0, le=384_000, description="Hz")
    fmin: float = Field(0.0, ge=0, le=192_000, description="Hz")
    fmax: float | None = Field(8000.0, gt=0, le=192_000, description="Hz; None is half of sampling_rate")

    @model_validator(mode="after")
    def _holds_together(self) -> HiFiGANConfig:
        for a, b in (
            ("upsample_rates", "upsample_kernel_sizes"),
            ("resblock_kernel_sizes", "resblock_dilation_sizes"),
        ):
            if len(getattr(self, a)) != len(getattr(self, b)):
                raise ValueError(f"'{a}' and '{b}' differ in length; they go in pairs")
        upsampling = math.prod(self.upsample_rates)
        if upsampling != self.hop_size:
            raise ValueError(
                f"'upsample_rates' multiply to {upsampling} and 'hop_size' is {self.hop_size}; they must be equal"
            )
        if any(k < r or (k - r) % 2 for k, r in zip(self.upsample_kernel_sizes, self.upsample_rates, strict=True)):
            raise ValueError("each of 'upsample_kernel_sizes' must be its rate, or larger by an even number")
        if not all(size % 2 for size in self.resblock_kernel_sizes):
            raise ValueError("'resblock_kernel_sizes' must be odd")
        if self.upsample_initial_channel % 2 ** len(self.upsample_rates):
            raise ValueError("'upsample_initial_channel' cannot be halved as often as there are 'upsample_rates'")
        return self

    @property
    def mel(self) -> MelConfig:
        """The mel that the generator takes. (Its floor, 1e-5, is a constant of the authors' code.)"""
        values = {
            "sample_rate": self.sampling_rate,
            "n_fft": self.n_fft,
            "window": self.win_size,
            "hop": self.hop_size,
            "n_mels": self.num_mels,
            "f_min": self.fmin,
            "f_max": self.sampling_rate / 2 if self.fmax is None else self.fmax,
            "floor": 1e-5,
        }
        return MelConfig.parse(values, context=f"the mel in the config.json of this {self.family}")

    @classmethod
    def load(cls, path: Path) -> HiFiGANConfig:
        """Read config.json.

        Raises:
            VcvaeError: it is missing, is not JSON, or does not describe such a generator.
        """
        values = read_json(path, advice="put the generator's config.json beside it")
        absent = [key for key in cls.model_fields if key not in values]
        if absent:
            raise VcvaeError(f"{path}: not a config of {cls.family}, as it has no '{absent[0]}'.")
        return cls.parse(values, context=str(path))


class HiFiGAN(Vocoder):
    """Transposed convolutions up to the sample rate, each followed by residual blocks of several kernels.

    The parameters are named as in the authors' checkpoints. Weight normalization only matters in training:
    `load` multiplies it out, and the convolutions are plain ones.

    Example:
        >>> import torch
        >>> HiFiGAN(HiFiGANConfig())(torch.zeros(1, 80, 4)).shape
        torch.Size([1, 1024])
    """

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__()
        self.mel_config = config.mel
        block = {"1": PairedResidual, "2": SingleResidual}[config.resblock]
        channels = config.upsample_initial_channel
        self.conv_pre = _convolution(config.num_mels, channels, kernel=7)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.ups.append(nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2))
            channels //= 2
            for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
                self.resblocks.append(block(channels, size, dilations))
        self.conv_post = _convolution(channels, 1, kernel=7)

    def forward(self, mel: Tensor) -> Tensor:
        """Ln-mel (batch, n_mels, frames) → samples (batch, frames * hop) in [-1, 1]."""
        x = self.conv_pre(mel)
        parallel = len(self.resblocks) // len(self.ups)
        for i, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, 0.1))
            x = sum(block(x) for block in self.resblocks[i * parallel : (i + 1) * parallel]) / parallel
        # The last slope is .01, not .1: so were the public checkpoints trained.
        return torch.tanh(self.conv_post(F.leaky_relu(x, 0.01))).squeeze(1)

    @classmethod
    def load(cls, path: str | Path) -> HiFiGAN:
        """A public checkpoint: a generator file with config.json beside it, or the folder that holds the two.

        Raises:
            VcvaeError: a file that is missing, is no HiFi-GAN generator, or does not fit its config.json.
        """
        path = _generator_file(Path(path).expanduser())
        config = HiFiGANConfig.load(path.with_name("config.json"))
        weights = fold_weight_norm(read_checkpoint(path, of="a HiFi-GAN generator", key="generator"))
        return build(lambda: cls(config), weights, path=path, config="config.json")


class PairedResidual(nn.Module):
    """Residual block '1', on (batch, channels, length): each step is a dilated and a plain convolution."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_convolution(channels, channels, kernel, d) for d in dilations)
        self.convs2 = nn.ModuleList(_convolution(channels, channels, kernel) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, 0.1)), 0.1))
        return x


class SingleResidual(nn.Module):
    """Residual block '2', on (batch, channels, length): each step is one dilated convolution."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_convolution(channels, channels, kernel, d) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated in self.convs:
            x = x + dilated(F.leaky_relu(x, 0.1))
        return x


def fold_weight_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace every magnitude g and direction v (Salimans and Kingma 2016) by the weight g · v / ‖v‖.

    PyTorch has two ways of naming the pair; both are handled. Other entries, and pairs whose shapes do not match, are
    unchanged.
    """
    state = dict(state)
    for g_name, v_name in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        for key in [key for key in state if key.endswith(g_name)]:
            layer = key.removesuffix(g_name)
            g, v = state[key], state.get(layer + v_name)
            if v is not None and v.is_floating_point() and v.ndim == 3 and g.shape == (len(v), 1, 1):
                del state[key], state[layer + v_name]
                state[layer + "weight"] = g * v / torch.linalg.vector_norm(v, dim=(1, 2), keepdim=True)
    return state


def _convolution(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)


def _generator_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise VcvaeError(f"{path}: there is no such file or folder; give a HiFi-GAN generator.")
    generators = sorted(file.name for pattern in ("g_*", "generator*") for file in path.glob(pattern))
    if len(generators) != 1:
        names = ", ".join(generators) or "no file named g_* or generator*"
        raise VcvaeError(f"{path}: holds {names}; give the path of one generator file.")
    return path / generators[0]
