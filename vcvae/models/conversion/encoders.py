"""The three encoders of the disentangling VAE: content, speaker and F0.

The content and F0 encoders get the bands below `encoder_f_max`, which every recording has. The speaker encoder gets
all bands, since higher bands distinguish speakers, and a mask of the valid bands, so that it cannot use the bandwidth
of a recording as a speaker cue. No encoder gets the level.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour
from vcvae.features.mel import standardize
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.distributions import Gaussian, squash
from vcvae.models.f0_classifier import F0Classifier
from vcvae.models.layers import (
    Convolution,
    FrameNorm,
    InstanceNorm,
    Level,
    Mask,
    ResidualBlock,
    StatisticsPooling,
    frame_mask,
    halved,
    masked,
)

CENTRE_MOMENTUM = 0.01  # weight of a batch in the running mean of speaker embeddings


class ContentEncoder(nn.Module):
    """Log-mel → content: a Gaussian at a quarter of the frame rate, from which most of the speaker is removed.

    Example:
        >>> import torch
        >>> ContentEncoder(DisentanglingConfig())(torch.randn(2, 80, 101)).mean.shape
        torch.Size([2, 64, 26])
    """

    def __init__(self, config: DisentanglingConfig) -> None:
        super().__init__()
        self.config = config
        fast, slow = config.fast_channels, config.slow_channels

        def blocks(count: int, channels: int) -> nn.ModuleList:
            return nn.ModuleList(
                ResidualBlock(channels, kernel=config.kernel, norm=InstanceNorm()) for _ in range(count)
            )

        self.level = Level(config.encoder_bands)
        self.norm = InstanceNorm()
        self.stem = Convolution(config.encoder_bands, fast, kernel=5, stride=2)
        self.fast = blocks(config.content_fast_blocks, fast)
        self.reduce = Convolution(fast, slow, kernel=4, stride=2)
        self.slow = blocks(config.content_slow_blocks, slow)
        self.asr = AsrInput(config) if config.asr_channels else None
        self.head = nn.Linear(slow, 2 * config.content_latent)
        self.scale = nn.Parameter(torch.ones(config.content_latent))

    def forward(self, mel: Tensor, lengths: Tensor | None = None, *, asr_features: Tensor | None = None) -> Gaussian:
        """Mel (batch, n_mels, frames), lengths (batch,) in frames → Gaussian of (batch, latent, ceil(frames / 4)).

        `asr_features` (batch, ceil(frames / 4), 2 · asr_channels) of `vcvae.models.conversion.asr_features`, for a
        model that takes them: more of the words is kept. It makes do without.
        """
        x, mask = _prepare_lower_bands(mel, lengths, self.config, self.level)
        # Normalizing each band removes any fixed filter: the microphone's, and the long-term spectrum of the voice.
        x, mask = self.stem(self.norm(x, mask)), halved(mask)
        for block in self.fast:
            x = block(x, mask)
        x, mask = self.reduce(masked(self.norm(x, mask), mask)), halved(mask)
        to_mean = 0.0
        if asr_features is not None:
            to_blocks, to_mean = self.asr(self.norm(asr_features, mask))
            x = masked(x + to_blocks, mask)
        for block in self.slow:
            x = block(x, mask)
        mean, log_variance = self.head(self.norm(x, mask)).chunk(2, dim=2)
        # Per-utterance variance leaks the speaker: normalize each dimension, then apply one learned scale for all.
        mean = self.norm(mean + to_mean, mask) * self.scale
        log_variance = masked(squash(log_variance, self.config.log_variance_bound), mask)
        return Gaussian(mean.mT, log_variance.mT)


class AsrInput(nn.Module):
    """A recognizer's features → what they add within the content encoder: before its slow blocks, and to its mean.

    Zero at first: a trained model can be given them.
    """

    def __init__(self, config: DisentanglingConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * config.asr_channels, config.slow_channels)
        self.to_blocks = nn.Linear(config.slow_channels, config.slow_channels)
        self.to_mean = nn.Linear(config.slow_channels, config.content_latent)
        for layer in (self.to_blocks, self.to_mean):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, 2 · asr_channels) → (batch, frames, slow_channels) and (batch, frames, content_latent)."""
        hidden = F.gelu(self.hidden(features))
        return self.to_blocks(hidden), self.to_mean(hidden)


class SpeakerEncoder(nn.Module):
    """Log-mel of any length → speaker embedding of unit length. Compare two by the dot product, after `centred`.

    Example:
        >>> import torch
        >>> SpeakerEncoder(DisentanglingConfig())(torch.randn(2, 80, 101)).shape
        torch.Size([2, 128])
    """

    def __init__(self, config: DisentanglingConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.speaker_channels
        self.level = Level(config.encoder_bands)
        self.stem = Convolution(2 * config.mel.n_mels, channels, kernel=5, stride=2)
        self.reduce = Convolution(channels, channels, kernel=4, stride=2)
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, kernel=config.kernel, norm=FrameNorm(channels))
            for _ in range(config.speaker_blocks)
        )
        self.norm = FrameNorm(channels)
        self.pool = StatisticsPooling(channels)
        self.head = nn.Linear(2 * channels, config.speaker_latent)
        self.register_buffer("centre", torch.zeros(config.speaker_latent))

    def forward(self, mel: Tensor, lengths: Tensor | None = None, *, valid_bands: Tensor | None = None) -> Tensor:
        """Mel (batch, n_mels, frames), lengths (batch,) in frames → (batch, speaker_latent).

        `valid_bands` (batch, n_mels) is 1 for the bands within the recording's bandwidth
        (`vcvae.features.mel.valid_band_mask`); None for all.
        """
        return self.embed_frames(*self.frames(mel, lengths, valid_bands=valid_bands))

    def frames(
        self, mel: Tensor, lengths: Tensor | None = None, *, valid_bands: Tensor | None = None
    ) -> tuple[Tensor, Mask]:
        """The features of each frame, (batch, ceil(frames / 4), speaker_channels), and their mask."""
        x, mask = _prepare(mel, lengths, self.config, self.level)
        valid = (torch.ones_like(x[:, :1]) if valid_bands is None else valid_bands[:, None].to(x)).expand_as(x)
        x = masked(torch.cat([x * valid, valid], dim=2), mask)
        x, mask = self.stem(x), halved(mask)
        x, mask = self.reduce(masked(F.gelu(x), mask)), halved(mask)
        x = masked(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x, mask), mask

    def embed_frames(self, frames: Tensor, mask: Mask = None) -> Tensor:
        """The output of `frames` → speaker embedding (batch, speaker_latent)."""
        embedding = F.normalize(self.head(self.pool(frames, mask)), dim=-1)
        if self.training:
            self.centre.lerp_(embedding.detach().float().mean(dim=0), CENTRE_MOMENTUM)
        return embedding

    def centred(self, embeddings: Tensor) -> Tensor:
        """Speaker embeddings (…, speaker_latent) less their mean over the training data, of unit length again.

        Their cosines tell speakers apart better. The decoder takes embeddings as they are.
        """
        return F.normalize(embeddings - self.centre, dim=-1)


class F0Encoder(F0Classifier):
    """Log-mel → F0 contour."""

    def __init__(self, config: DisentanglingConfig) -> None:
        super().__init__(
            config.encoder_bands, channels=config.f0_channels, blocks=config.f0_blocks, kernel=config.kernel
        )
        self.config = config
        self.level = Level(config.encoder_bands)

    def logits(self, mel: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mel → logits of the bins, (batch, ceil(frames / 2), bins), and of voicing, (batch, ceil(frames / 2))."""
        return super().logits(*_prepare_lower_bands(mel, lengths, self.config, self.level))

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> F0Contour:
        """Mel (batch, n_mels, frames) → contour of (batch, ceil(frames / 2)); padding is unvoiced."""
        return self.decode(*self.logits(mel, lengths))


class StatisticsProjection(nn.Module):
    """The statistics of a frozen speaker verification network, less their mean over speakers, in fewer dimensions.

    That network has met thousands of speakers, the speaker encoder hundreds. The mean itself gives zero.
    """

    def __init__(self, statistics: int, latent: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(statistics))
        self.project = nn.Linear(statistics, latent, bias=False)

    def forward(self, statistics: Tensor) -> Tensor:
        """(batch, statistics) → (batch, latent)."""
        return self.project(statistics - self.centre)


def _prepare(mel: Tensor, lengths: Tensor | None, config: DisentanglingConfig, level: Level) -> tuple[Tensor, Mask]:
    """Check a mel → all its bands at level zero, standardized, (batch, frames, n_mels), padding at zero; the mask."""
    if mel.ndim != 3 or mel.shape[1] != config.mel.n_mels or mel.shape[2] < 1:
        raise VcvaeError(
            f"a mel must be (batch, {config.mel.n_mels}, frames ≥ 1), not {tuple(mel.shape)}; "
            "vcvae.MelSpectrogram makes one from a waveform."
        )
    mask = frame_mask(lengths, mel.shape[2])
    x = standardize(mel - level(mel, mask))
    return masked(x.transpose(1, 2), mask), mask


def _prepare_lower_bands(
    mel: Tensor, lengths: Tensor | None, config: DisentanglingConfig, level: Level
) -> tuple[Tensor, Mask]:
    """The same without the bands above `encoder_f_max`."""
    x, mask = _prepare(mel, lengths, config, level)
    return x[..., : config.encoder_bands], mask
