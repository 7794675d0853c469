"""What is said in a waveform: the judgement of a speech recognizer, within reach of a gradient."""

from __future__ import annotations

from pathlib import Path

import torch
import torchaudio
from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from vcvae.models.frozen.moonshine import SAMPLE_RATE, MoonshineConfig, MoonshineEncoder, load_moonshine
from vcvae.models.hub import PretrainedModel


class ContentNetConfig(MoonshineConfig):
    """The sizes of a reader, and the rate of what it hears."""

    sample_rate: int = Field(22050, gt=0, description="Hz")


class ContentNet(PretrainedModel, config=ContentNetConfig):
    """Samples → what a speech recognizer takes them to say, frame by frame.

    A converter's own content encoder knows no more of words than passes its narrow latent. This is the encoder of a
    recognizer that has heard 200,000 hours, a Moonshine.

    Example:
        >>> import torch
        >>> ContentNet(ContentNetConfig(channels=16, heads=2, layers=1))(torch.randn(2, 22050)).shape
        torch.Size([2, 16, 40])
    """

    def __init__(self, config: ContentNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or ContentNetConfig()
        self.encoder = MoonshineEncoder(self.config)

    @classmethod
    def of(cls, recognizer: str | Path | None = None) -> Self:
        """One that reads as a Moonshine does; see `load_moonshine`."""
        encoder = load_moonshine(recognizer)
        reader = cls(ContentNetConfig(**encoder.config.model_dump()))
        reader.encoder = encoder
        return reader.eval()

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples) → (batch, channels, frames), 41.7 frames a second."""
        return self.encoder(torchaudio.functional.resample(samples, self.config.sample_rate, SAMPLE_RATE))

    def misread(self, spoken: Tensor, meant: Tensor) -> Tensor:
        """How far samples are from saying the same as others, both (batch, samples): 0 for the same, 1 for anything.

        It is 1 less the cosine of what is read in each frame, without what is read in all of them.
        """
        spoken, meant = self(spoken), self(meant)
        usual = meant.mean(dim=2, keepdim=True)
        return 1 - torch.cosine_similarity(spoken - usual, meant - usual).mean()
