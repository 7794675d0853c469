"""The sizes of the disentangling VAE, which its encoders and its decoder share."""

from __future__ import annotations

from functools import cached_property

from pydantic import Field, model_validator

from vcvae.config import Config
from vcvae.features.mel import MelConfig
from vcvae.features.mel_scale import mel_frequencies

REDUCTION = 4  # mel frames per content frame


class DisentanglingConfig(Config):
    """Sizes of the disentangling VAE. The defaults have 4.8 M parameters."""

    mel: MelConfig = Field(MelConfig(), description="of input and output")
    encoder_f_max: float = Field(
        5200.0, gt=0, le=192_000, description="Hz; content and F0 encoders get the bands that end below"
    )
    kernel: int = Field(3, ge=1, le=63, description="frames; width of every residual block's convolution")
    fast_channels: int = Field(
        192, gt=0, le=1024, description="width of content encoder and decoder at 43 frames per second"
    )
    slow_channels: int = Field(256, gt=0, le=1024, description="width of both at 21.5 frames per second")
    content_latent: int = Field(64, gt=0, le=1024, description="dimensions of the content latent")
    content_fast_blocks: int = Field(1, ge=0, le=64, description="residual blocks at 43 frames per second")
    content_slow_blocks: int = Field(3, ge=0, le=64, description="residual blocks at 21.5 frames per second")
    log_variance_bound: float = Field(6.0, gt=0, le=30, description="bound of the content posterior's |log-variance|")
    speaker_latent: int = Field(128, gt=0, le=1024, description="dimensions of the speaker embedding")
    speaker_channels: int = Field(160, gt=0, le=1024, description="width of the speaker encoder")
    speaker_blocks: int = Field(2, ge=0, le=64, description="residual blocks at 21.5 frames per second")
    f0_channels: int = Field(96, gt=0, le=1024, description="width of the F0 encoder")
    f0_blocks: int = Field(2, ge=0, le=64, description="residual blocks at 43 frames per second")
    speaker_statistics: int = Field(
        0, ge=0, le=2**16, description="statistics of the target that a frozen speaker verification network gives"
    )
    asr_channels: int = Field(
        0, ge=0, le=4096, description="width of the frozen recognizer whose features the content encoder takes, too"
    )
    statistics_latent: int = Field(96, gt=0, le=1024, description="dimensions to which these are projected")
    conditional_rank: int = Field(
        0,
        ge=0,
        le=512,
        description="rank of the part of the decoder's and postfilter's matrices that depends on the speaker",
    )
    decoder_slow_blocks: int = Field(3, ge=0, le=64, description="residual blocks at 21.5 frames per second")
    reference_heads: int = Field(
        4, ge=0, le=64, description="heads of the cross-attention to the reference after each slow block; 0 for none"
    )
    decoder_fast_blocks: int = Field(3, ge=0, le=64, description="residual blocks at 43 frames per second")
    modulation_cutoff: float = Field(
        10.0, ge=0.5, le=1000, description="Hz; faster modulations of the envelope are copied from the source"
    )
    postfilter_channels: int = Field(160, gt=0, le=1024, description="width of the postfilter at 86 frames per second")
    postfilter_blocks: int = Field(0, ge=0, le=64, description="residual blocks of the postfilter; 0 for none")

    @model_validator(mode="after")
    def _holds_together(self) -> DisentanglingConfig:
        if self.reference_heads and self.slow_channels % self.reference_heads:
            raise ValueError("reference_heads must divide slow_channels")
        return self

    @cached_property
    def encoder_bands(self) -> int:
        """The number of bands that the content and F0 encoders get, and in which the level is measured."""
        edges = mel_frequencies(self.mel.n_mels + 2, f_min=self.mel.f_min, f_max=self.mel.f_max)[2:]
        return max(1, int((edges <= self.encoder_f_max).sum()))
