"""The ASR encoder of the content loss: the encoder of a speech recognizer, applied differentiably to samples."""

from __future__ import annotations

import math

import torch
import torchaudio
from pydantic import Field, model_validator
from torch import Tensor

from vcvae.models.frozen.moonshine import MOONSHINE_SAMPLE_RATE, MoonshineConfig, MoonshineEncoder
from vcvae.models.hub import PretrainedModel


class ContentNetConfig(MoonshineConfig):
    """The sizes of the encoder, and the sample rate of its input."""

    sample_rate: int = Field(22050, ge=1000, le=384_000, description="Hz")

    @model_validator(mode="after")
    def _is_quickly_resampled(self) -> ContentNetConfig:
        if math.gcd(self.sample_rate, MOONSHINE_SAMPLE_RATE) < 25:  # the resampling filter grows as their ratio's terms
            raise ValueError(f"sample_rate and {MOONSHINE_SAMPLE_RATE} must share a factor of 25 or more")
        return self


class ContentNet(PretrainedModel, config=ContentNetConfig):
    """Samples → the features of a speech recognizer's encoder (Moonshine), frame by frame.

    The recognizer was trained on 200,000 hours of speech. The converter's content encoder is no substitute:
    a loss on its narrow latent does not ensure intelligible words.

    Example:
        >>> import torch
        >>> ContentNet(ContentNetConfig(channels=16, heads=2, layers=1))(torch.randn(2, 22050)).shape
        torch.Size([2, 16, 40])
    """

    def __init__(self, config: ContentNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or ContentNetConfig()
        self.encoder = MoonshineEncoder(self.config)

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples) → (batch, channels, frames), 41.7 frames per second."""
        resample = torchaudio.functional.resample
        return self.encoder(resample(samples, self.config.sample_rate, MOONSHINE_SAMPLE_RATE))

    @staticmethod
    def distance(converted_features: Tensor, source_features: Tensor) -> Tensor:
        """1 minus the mean cosine of features (batch, channels, frames) of corresponding frames, a scalar.

        The source's mean feature is subtracted from both first: so it is 0 for the same content, and about 1 for
        unrelated content.
        """
        mean = source_features.mean(dim=2, keepdim=True)
        return 1 - torch.cosine_similarity(converted_features - mean, source_features - mean).mean()
