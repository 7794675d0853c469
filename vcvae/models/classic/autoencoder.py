"""The models that the conversion model grew from: auto-encoder, denoising auto-encoder, variational auto-encoder.

Each is an encoder, a code and a decoder. The auto-encoder's code is a point of few dimensions. The denoising one takes
a corrupted x and is trained to give the clean one. The variational one's code is a Gaussian near a prior, and its
decoder gives a scale as well: it is a density of x with a lower bound in nats, from which new x can be sampled.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.mel import MEL_MEAN, MEL_STD, MelConfig
from vcvae.models.classic.backbones import BACKBONES, initialize_with_principal_components
from vcvae.models.distributions import LIKELIHOODS, Gaussian, Likelihood, Point
from vcvae.models.hub import PretrainedModel

DIMENSIONS = {"frames": 3, "image": 4, "vector": 2}  # of a batch of them


class AutoEncoderConfig(Config):
    """Sizes of an auto-encoder. The defaults are for log-mels."""

    mel: MelConfig = MelConfig()
    backbone: Literal["frames", "image", "vector"] = Field(
        "frames", description="the shape of x: frames, image or vector"
    )
    inputs: int = Field(80, gt=0, le=8192, description="values of a frame, channels of an image, or values of a vector")
    latent: int = Field(
        16, gt=0, le=1024, description="values of the code per position: per 4 frames, or per 4 × 4 pixels"
    )
    channels: int = Field(192, gt=0, le=1024, description="width of every layer")
    blocks: int = Field(2, ge=0, le=64, description="residual blocks (frames), convolutions or layers at each rate")
    kernel: int = Field(3, ge=1, le=63, description="frames or pixels; width of the blocks' convolutions")
    mean: float = Field(MEL_MEAN, ge=-1e6, le=1e6, description="subtracted from x")
    std: float = Field(MEL_STD, ge=1e-6, le=1e6, description="x is divided by this, after that")
    likelihood: Literal["laplace", "normal"] = Field("laplace", description="of x given the code: laplace or normal")


class AutoEncoder(PretrainedModel, config=AutoEncoderConfig):
    """x → code of fewer dimensions → x again (Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647).

    Example:
        >>> import torch
        >>> model, mel = AutoEncoder(), torch.randn(2, 80, 101)
        >>> model.encode(mel).mean.shape
        torch.Size([2, 16, 26])
        >>> model.reconstruct(mel).shape
        torch.Size([2, 80, 101])
    """

    encoder_outputs: ClassVar[int] = 1  # per value of the code: a point
    decoder_outputs: ClassVar[int] = 1  # per value of x: the mean; the scale is fixed at `std`

    def __init__(self, config: AutoEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or AutoEncoderConfig()
        encoder, decoder = BACKBONES[c.backbone]
        sizes = {"channels": c.channels, "blocks": c.blocks, "kernel": c.kernel}
        self.encoder = encoder(c.inputs, self.encoder_outputs * c.latent, **sizes)
        self.decoder = decoder(c.inputs, c.latent, self.decoder_outputs, **sizes)

    def initialize(self, x: Tensor) -> None:
        """Before training: set the linear path to a principal component analysis of x (batch, inputs, frames).

        Images and vectors have no such path; for them this does nothing.
        """
        if self.config.backbone == "frames":
            initialize_with_principal_components(self.encoder, self.decoder, self._standardize(x))

    def encode(self, x: Tensor) -> Point | Gaussian:
        """x (batch, inputs, …) → the posterior of its code (batch, latent, …)."""
        return Point(self.encoder(self._standardize(x)))

    def decode(self, code: Tensor, shape: torch.Size) -> Likelihood:
        """A code (batch, latent, …) → the distribution of the x of that shape, (batch, inputs, …)."""
        mean, *_ = self.decoder(code, shape)
        return self._likelihood(mean, torch.zeros_like(mean))

    def reconstruct(self, x: Tensor) -> Tensor:
        """x, reconstructed from the mean of its code."""
        return self.decode(self.encode(x).mean, x.shape).mean

    def _standardize(self, x: Tensor) -> Tensor:
        c = self.config
        if x.ndim != DIMENSIONS[c.backbone] or x.shape[1] != c.inputs or not x.numel():
            axes = {"frames": "frames", "image": "height, width", "vector": ""}[c.backbone]
            raise VcvaeError(f"x must be (batch, {c.inputs}{axes and ', ' + axes}), not {tuple(x.shape)}.")
        if not x.isfinite().all():
            raise VcvaeError("x holds values that are not finite; check how it was computed.")
        return (x - c.mean) / c.std

    def _likelihood(self, mean: Tensor, log_scale: Tensor) -> Likelihood:
        """The likelihood of x, from the mean and the log-scale of the standardized x."""
        c = self.config
        return LIKELIHOODS[c.likelihood](c.mean + c.std * mean, log_scale + math.log(c.std))


class DenoisingAutoEncoder(AutoEncoder, config=AutoEncoderConfig):
    """Noisy x → code → clean x (Vincent et al. 2008, doi:10.1145/1390156.1390294).

    The same network as `AutoEncoder`, trained on corrupted inputs.
    """

    @torch.inference_mode()
    def denoise(self, mel: Tensor) -> Tensor:
        """A noisy log-mel (n_mels, frames) → the estimate of the clean one."""
        return self.reconstruct(mel[None])[0]


class VAE(AutoEncoder, config=AutoEncoderConfig):
    """A density of x: z ~ N(0, I), and x given z by the decoder (Kingma & Welling 2014, arXiv:1312.6114).

    Example:
        >>> import torch
        >>> model, mel = VAE(), torch.randn(2, 80, 101)
        >>> model.encode(mel).kl().shape
        torch.Size([2, 16, 26])
        >>> model.sample(torch.Size([3, 80, 50])).shape
        torch.Size([3, 80, 50])
    """

    encoder_outputs = 2  # a mean and a log-variance
    decoder_outputs = 2  # a mean and a log-scale

    def initialize(self, x: Tensor) -> None:
        """Does nothing: principal components do not have the prior's variance."""

    def encode(self, x: Tensor) -> Gaussian:
        """x (batch, inputs, …) → the posterior of its code, (batch, latent, …)."""
        statistics = self.encoder(self._standardize(x))
        return Gaussian.bounded(statistics, mean_bound=6.0, log_variance_bound=6.0)

    def decode(self, code: Tensor, shape: torch.Size) -> Likelihood:
        """A code (batch, latent, …) → the distribution of the x of that shape, with a scale of its own everywhere."""
        mean, log_scale = self.decoder(code, shape)
        # The scale stays within e^±5 of `std`: beyond any scale of speech, and a scale of 0 has no finite likelihood.
        return self._likelihood(mean, 5 * torch.tanh(log_scale / 5))

    def sample(self, shape: torch.Size) -> Tensor:
        """New x of a shape (batch, inputs, …): the decoder's mean for a code drawn from the prior."""
        with torch.no_grad():
            like = self.encode(torch.full(shape, self.config.mean)).mean
            return self.decode(torch.randn_like(like), shape).mean

    def interpolate(self, a: Tensor, b: Tensor, weight: float) -> Tensor:
        """The x whose code is interpolated between those of a (weight 0) and b (weight 1), (batch, inputs, …) both."""
        return self.decode(torch.lerp(self.encode(a).mean, self.encode(b).mean, weight), a.shape).mean
