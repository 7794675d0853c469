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
from vcvae.models.classic.backbones import BODIES, begin_as_principal_components
from vcvae.models.distributions import LIKELIHOODS, Gaussian, Likelihood, Point
from vcvae.models.hub import PretrainedModel

DIMENSIONS = {"frames": 3, "image": 4, "vector": 2}  # of a batch of them


class AutoEncoderConfig(Config):
    """Sizes of an auto-encoder. The defaults are for log-mels."""

    mel: MelConfig = MelConfig()
    body: Literal["frames", "image", "vector"] = Field("frames", description="what x is: frames, image or vector")
    inputs: int = Field(80, gt=0, description="values of a frame, channels of an image, or values of a vector")
    latent: int = Field(
        16, gt=0, description="values of the code at each of its places: every 4 frames, or 4 × 4 pixels"
    )
    channels: int = Field(192, gt=0, description="width of every layer")
    blocks: int = Field(2, ge=0, description="residual blocks (frames), convolutions or layers at each rate")
    kernel: int = Field(3, ge=1, description="frames or pixels; width of a block's convolution")
    centre: float = Field(MEL_MEAN, description="what is subtracted from x first")
    spread: float = Field(MEL_STD, gt=0, description="… and what it is then divided by")
    likelihood: Literal["laplace", "normal"] = Field("laplace", description="of x given the code: laplace or normal")


class AutoEncoder(PretrainedModel, config=AutoEncoderConfig):
    """x → code of fewer dimensions → x again (Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647).

    Example:
        >>> import torch
        >>> model, mel = AutoEncoder(), torch.randn(2, 80, 101)
        >>> model.encode(mel).mean.shape
        torch.Size([2, 16, 26])
        >>> model.copy(mel).shape
        torch.Size([2, 80, 101])
    """

    statistics: ClassVar[int] = 1  # that the encoder gives of each value of the code: a place
    widths: ClassVar[int] = 0  # that the decoder gives of each value of x: none, it is fixed at the spread

    def __init__(self, config: AutoEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or AutoEncoderConfig()
        encoder, decoder = BODIES[c.body]
        sizes = {"channels": c.channels, "blocks": c.blocks, "kernel": c.kernel}
        self.encoder = encoder(c.inputs, self.statistics * c.latent, **sizes)
        self.decoder = decoder(c.inputs, c.latent, 1 + self.widths, **sizes)

    def begin(self, x: Tensor) -> None:
        """Before any training: be the principal component analysis of x (batch, inputs, frames), where x is frames."""
        if self.config.body == "frames":
            begin_as_principal_components(self.encoder, self.decoder, self._standard(x))

    def encode(self, x: Tensor) -> Point | Gaussian:
        """x (batch, inputs, …) → the posterior of its code (batch, latent, …)."""
        return Point(self.encoder(self._standard(x)))

    def decode(self, code: Tensor, shape: torch.Size) -> Likelihood:
        """A code (batch, latent, …) → the distribution of the x of that shape, (batch, inputs, …)."""
        mean, *_ = self.decoder(code, shape)
        return self._likelihood(mean, torch.zeros_like(mean))

    def copy(self, x: Tensor) -> Tensor:
        """x as it comes back from the code's mean."""
        return self.decode(self.encode(x).mean, x.shape).mean

    def _standard(self, x: Tensor) -> Tensor:
        c = self.config
        if x.ndim != DIMENSIONS[c.body] or x.shape[1] != c.inputs or not x.numel():
            wanted = {"frames": "frames", "image": "height, width", "vector": ""}[c.body]
            raise VcvaeError(f"x must be (batch, {c.inputs}{wanted and ', ' + wanted}), not {tuple(x.shape)}.")
        if not x.isfinite().all():
            raise VcvaeError("x holds values that are not finite; look at where it was made.")
        return (x - c.centre) / c.spread

    def _likelihood(self, mean: Tensor, log_scale: Tensor) -> Likelihood:
        """Of x itself, from statistics of the standardised x."""
        c = self.config
        return LIKELIHOODS[c.likelihood](c.centre + c.spread * mean, log_scale + math.log(c.spread))


class DenoisingAutoEncoder(AutoEncoder, config=AutoEncoderConfig):
    """Noisy x → code → clean x (Vincent et al. 2008, doi:10.1145/1390156.1390294).

    The same network; what differs is what it was trained to hear.
    """

    @torch.inference_mode()
    def denoise(self, mel: Tensor) -> Tensor:
        """A noisy log-mel (n_mels, frames) → the clean one, as far as it can be told."""
        return self.copy(mel[None])[0]


class VAE(AutoEncoder, config=AutoEncoderConfig):
    """A density of x: z ~ N(0, I), and x given z as the decoder says (Kingma & Welling 2014, arXiv:1312.6114).

    Example:
        >>> import torch
        >>> model, mel = VAE(), torch.randn(2, 80, 101)
        >>> model.encode(mel).kl().shape
        torch.Size([2, 16, 26])
        >>> model.sample(torch.Size([3, 80, 50])).shape
        torch.Size([3, 80, 50])
    """

    statistics = 2  # a mean and a log-variance
    widths = 1

    def begin(self, x: Tensor) -> None:
        """As it is: principal components are not of the prior's variance."""

    def encode(self, x: Tensor) -> Gaussian:
        statistics = self.encoder(self._standard(x))
        return Gaussian.bounded(statistics, mean_bound=6.0, log_variance_bound=6.0)

    def decode(self, code: Tensor, shape: torch.Size) -> Likelihood:
        mean, log_scale = self.decoder(code, shape)
        # e^±5 of the spread is surer and less sure than speech ever lets one be; a width of 0 would have no bound.
        return self._likelihood(mean, 5 * torch.tanh(log_scale / 5))

    def sample(self, shape: torch.Size) -> Tensor:
        """New x of a shape (batch, inputs, …): the decoder's mean for a code drawn from the prior."""
        with torch.no_grad():
            like = self.encode(torch.full(shape, self.config.centre)).mean
            return self.decode(torch.randn_like(like), shape).mean

    def between(self, a: Tensor, b: Tensor, share: float) -> Tensor:
        """The x whose code is `share` of the way from that of a to that of b, both (batch, inputs, …) of one shape."""
        return self.decode(torch.lerp(self.encode(a).mean, self.encode(b).mean, share), a.shape).mean
