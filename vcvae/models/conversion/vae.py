"""The disentangling variational auto-encoder: what is said and who speaks, in two latents.

A mel goes through three encoders: content (instance-normalized, a slow and narrow Gaussian), speaker (one vector) and
f0 (a contour). The decoder joins them again. Conversion is the same decode with the speaker of another utterance,
and the contour moved to that speaker's f0_statistics. Instance normalization against the speaker, and AdaIN to bring
another one in, follow Chou et al. 2019 (AdaIN-VC, arXiv:1904.05742). What moves too quickly for the content's narrow
latent is handed on beside it, as modulation.

Content and f0 are heard in the bands below `encoder_f_max`, which every recording has. The speaker is heard in all
bands that the recording fills, as much of what tells voices apart lies above; which these are is said beside them, so
that a recording's bandwidth does not pass for its speaker. No encoder hears the level: the decoder works at level zero
and the source's level is added at the end.
"""

from __future__ import annotations

import math
from functools import cached_property

import librosa
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0_BINS, F0Contour, F0Statistics
from vcvae.features.mel import MEL_MEAN, MelConfig, level, normalize_level, standardize
from vcvae.models.conversion.modulation import EnvelopeModulation
from vcvae.models.conversion.postfilter import Postfilter
from vcvae.models.conversion.voice import SpeakerReference, Voice
from vcvae.models.distributions import Gaussian, Point, squash
from vcvae.models.f0_classifier import F0Classifier
from vcvae.models.hub import PretrainedModel
from vcvae.models.layers import (
    AdaptiveInstanceNorm,
    Convolution,
    CrossAttention,
    FrameNorm,
    InstanceNorm,
    Mask,
    ResidualBlock,
    StatisticsPooling,
    frame_mask,
    halved,
    masked,
)

REDUCTION = 4  # mel frames per content frame
CENTRING = 0.01  # share of a batch in the running mean of speaker latents


class DisentanglingConfig(Config):
    """Sizes of the disentangling VAE. The defaults have 4.8 M parameters."""

    mel: MelConfig = MelConfig()
    encoder_f_max: float = Field(5200.0, gt=0, description="Hz; content and f0 are heard in no band that reaches above")
    kernel: int = Field(3, ge=1, description="frames; width of every residual block's convolution")
    fast_channels: int = Field(192, gt=0, description="width of content encoder and decoder at 43 frames per second")
    slow_channels: int = Field(256, gt=0, description="… and at 21.5")
    content_latent: int = Field(64, gt=0, description="dimensions of the content latent")
    content_fast_blocks: int = Field(1, ge=0, description="residual blocks at 43 frames per second")
    content_slow_blocks: int = Field(3, ge=0, description="residual blocks at 21.5 frames per second")
    log_variance_bound: float = Field(6.0, gt=0, description="the posterior's log-variances stay within ± this")
    speaker_latent: int = Field(128, gt=0, description="dimensions of the speaker latent")
    speaker_channels: int = Field(160, gt=0, description="width of the speaker encoder")
    speaker_blocks: int = Field(2, ge=0, description="residual blocks at 21.5 frames per second")
    f0_channels: int = Field(96, gt=0, description="width of the f0 encoder")
    f0_blocks: int = Field(2, ge=0, description="residual blocks at 43 frames per second")
    decoder_slow_blocks: int = Field(3, ge=0, description="residual blocks at 21.5 frames per second")
    reference_heads: int = Field(
        4, ge=0, description="of the attention to the speaker's frames after each of these; 0 for none"
    )
    decoder_fast_blocks: int = Field(3, ge=0, description="residual blocks at 43 frames per second")
    modulation_cutoff: float = Field(
        10.0, gt=0, description="Hz; what moves more quickly in the source's envelope is kept"
    )
    postfilter_channels: int = Field(160, gt=0, description="width of the postfilter, at 86 frames per second")
    postfilter_blocks: int = Field(0, ge=0, description="its residual blocks; 0 for no postfilter")

    @cached_property
    def encoder_bands(self) -> int:
        """How many of the mel's bands content and f0 are heard in, and the level is measured in."""
        edges = librosa.mel_frequencies(self.mel.n_mels + 2, fmin=self.mel.f_min, fmax=self.mel.f_max)[2:]
        return max(1, int((edges <= self.encoder_f_max).sum()))


def _hear(mel: Tensor, lengths: Tensor | None, config: DisentanglingConfig) -> tuple[Tensor, Mask]:
    """Check a mel; the bands that content and f0 are heard in, at level zero, frames first, padding at zero."""
    x, mask = _at_level_zero(mel, lengths, config)
    return x[..., : config.encoder_bands], mask


def _at_level_zero(mel: Tensor, lengths: Tensor | None, config: DisentanglingConfig) -> tuple[Tensor, Mask]:
    if mel.ndim != 3 or mel.shape[1] != config.mel.n_mels or mel.shape[2] < 1:
        raise VcvaeError(
            f"a mel must be (batch, {config.mel.n_mels}, frames ≥ 1), not {tuple(mel.shape)}; "
            "vcvae.MelSpectrogram makes one from a waveform."
        )
    mask = frame_mask(lengths, mel.shape[2])
    x = standardize(normalize_level(mel, config.encoder_bands, mask)[0])
    return masked(x.transpose(1, 2), mask), mask


class ContentEncoder(nn.Module):
    """Log-mel → what is said: a Gaussian at a quarter of the frame rate, stripped of the speaker.

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

        self.norm = InstanceNorm()
        self.stem = Convolution(config.encoder_bands, fast, kernel=5, stride=2)
        self.fast = blocks(config.content_fast_blocks, fast)
        self.reduce = Convolution(fast, slow, kernel=4, stride=2)
        self.slow = blocks(config.content_slow_blocks, slow)
        self.head = nn.Linear(slow, 2 * config.content_latent)
        self.scale = nn.Parameter(torch.ones(config.content_latent))

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Gaussian:
        """Mel (batch, n_mels, frames), lengths (batch,) in frames → Gaussian, (batch, latent, ceil(frames / 4))."""
        x, mask = _hear(mel, lengths, self.config)
        # Normalizing what is heard removes any fixed equaliser: the microphone's, and the voice's own long-term colour.
        x, mask = self.stem(self.norm(x, mask)), halved(mask)
        for block in self.fast:
            x = block(x, mask)
        x, mask = self.reduce(masked(self.norm(x, mask), mask)), halved(mask)
        for block in self.slow:
            x = block(x, mask)
        mean, log_variance = self.head(self.norm(x, mask)).chunk(2, dim=2)
        # How far each dimension swings in an utterance is the voice's, too; how far it may, is the same for all voices.
        mean = self.norm(mean, mask) * self.scale
        log_variance = masked(squash(log_variance, self.config.log_variance_bound), mask)
        return Gaussian(mean.mT, log_variance.mT)


class SpeakerEncoder(nn.Module):
    """Log-mel of any length → who speaks: one vector of unit length. A dot product of two, `centred`, is a similarity.

    Example:
        >>> import torch
        >>> SpeakerEncoder(DisentanglingConfig())(torch.randn(2, 80, 101)).mean.shape
        torch.Size([2, 128])
    """

    def __init__(self, config: DisentanglingConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.speaker_channels
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

    def forward(self, mel: Tensor, lengths: Tensor | None = None, *, valid_bands: Tensor | None = None) -> Point:
        """Mel (batch, n_mels, frames), lengths (batch,) in frames → Point of (batch, speaker_latent).

        `valid_bands` (batch, n_mels) is 1 for the bands that the recording fills (`vcvae.features.mel.valid_band_mask`); None for all.
        """
        return self.summary(*self.frames(mel, lengths, valid_bands=valid_bands))

    def frames(
        self, mel: Tensor, lengths: Tensor | None = None, *, valid_bands: Tensor | None = None
    ) -> tuple[Tensor, Mask]:
        """How each frame sounds: mel → (batch, ceil(frames / 4), speaker_channels), and the mask of those."""
        x, mask = _at_level_zero(mel, lengths, self.config)
        filled = (torch.ones_like(x[:, :1]) if valid_bands is None else valid_bands[:, None].to(x)).expand_as(x)
        x = masked(torch.cat([x * filled, filled], dim=2), mask)
        x, mask = self.stem(x), halved(mask)
        x, mask = self.reduce(masked(F.gelu(x), mask)), halved(mask)
        x = masked(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x, mask), mask

    def summary(self, frames: Tensor, mask: Mask = None) -> Point:
        """What `frames` gave → Point of (batch, speaker_latent)."""
        latent = F.normalize(self.head(self.pool(frames, mask)), dim=-1)
        if self.training:
            self.centre.lerp_(latent.detach().mean(dim=0), CENTRING)
        return Point(latent)

    def centred(self, latents: Tensor) -> Tensor:
        """Speaker latents (…, speaker_latent) as they are best compared, of unit length again.

        What all voices share, the mean over training, tells none from another and is taken away. A decoder wants it.
        """
        return F.normalize(latents - self.centre, dim=-1)


class F0Encoder(F0Classifier):
    """Log-mel → its f0 contour."""

    def __init__(self, config: DisentanglingConfig) -> None:
        super().__init__(
            config.encoder_bands, channels=config.f0_channels, blocks=config.f0_blocks, kernel=config.kernel
        )
        self.config = config

    def logits(self, mel: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mel → scores of the bins (batch, ceil(frames / 2), bins) and of being voiced (batch, ceil(frames / 2))."""
        return super().logits(*_hear(mel, lengths, self.config))

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> F0Contour:
        """Mel (batch, n_mels, frames) → F0Contour of (batch, ceil(frames / 2)); padding is unvoiced."""
        return self.decode(*self.logits(mel, lengths))


class Decoder(nn.Module):
    """Content, reference and f0 → log-mel at level zero.

    A speaker latent alone makes of a new voice the nearest of those that were learned from. So after each slow block
    every frame also looks up how the speaker sounds where he says the like, in the exemplars.

    Example:
        >>> import torch
        >>> f0 = F0Contour(torch.full((2, 51), 7.0), torch.ones(2, 51))
        >>> reference = SpeakerReference(torch.randn(2, 128), torch.randn(2, 70, 64), torch.randn(2, 70, 160), torch.ones(2, 70, 1))
        >>> Decoder(DisentanglingConfig())(torch.randn(2, 64, 26), reference, f0, frames=101).shape
        torch.Size([2, 80, 101])
    """

    def __init__(self, config: DisentanglingConfig) -> None:
        super().__init__()
        self.config = config
        fast, slow = config.fast_channels, config.slow_channels
        self.style = nn.Sequential(nn.Linear(config.speaker_latent, slow), nn.GELU())

        def blocks(count: int, channels: int) -> nn.ModuleList:
            return nn.ModuleList(
                ResidualBlock(channels, kernel=config.kernel, norm=AdaptiveInstanceNorm(channels, slow))
                for _ in range(count)
            )

        self.stem = Convolution(config.content_latent, slow, kernel=3)
        self.slow = blocks(config.decoder_slow_blocks, slow)
        sizes = {"keys": config.content_latent, "values": config.speaker_channels, "heads": config.reference_heads}
        self.cross_attention = nn.ModuleList(
            CrossAttention(slow, **sizes) for _ in range(config.decoder_slow_blocks if config.reference_heads else 0)
        )
        self.expand = nn.Linear(slow, 2 * fast)
        self.f0 = Convolution(F0_BINS, fast, kernel=3)
        self.fast = blocks(config.decoder_fast_blocks, fast)
        self.norm = AdaptiveInstanceNorm(fast, slow)
        self.head = nn.Linear(fast, 2 * config.mel.n_mels)
        nn.init.constant_(self.head.bias, MEL_MEAN)
        self.postfilter = None
        if config.postfilter_blocks:
            self.postfilter = Postfilter(
                config.mel.n_mels,
                features=fast,
                condition=slow,
                channels=config.postfilter_channels,
                blocks=config.postfilter_blocks,
                kernel=config.kernel,
            )

    def forward(
        self,
        content: Tensor,
        reference: SpeakerReference,
        f0: F0Contour,
        *,
        frames: int,
        lengths: Tensor | None = None,
        modulation: EnvelopeModulation | None = None,
    ) -> Tensor:
        """Content (batch, latent, ceil(frames / 4)), reference and f0 → (batch, n_mels, frames).

        That is the median of what the speech could be. With the modulation of the speech that the content is from, it
        moves as that does, and has postfilter, where the model has one.
        """
        mask = frame_mask(lengths, frames)
        half, quarter = halved(mask), halved(halved(mask))
        style = self.style(reference.embedding * self.config.speaker_latent**0.5)
        x = masked(self.stem(masked(content.transpose(1, 2), quarter)), quarter)
        for i, block in enumerate(self.slow):
            x = block(x, quarter, style)
            if self.cross_attention:
                x = self.cross_attention[i](x, quarter, reference.keys, reference.values, reference.mask)
        x = self.expand(x).reshape(len(x), -1, self.config.fast_channels)[:, : -(-frames // 2)]
        x = masked(x + self.f0(masked(f0.salience(), half)), half)
        for block in self.fast:
            x = block(x, half, style)
        x = F.gelu(self.norm(x, half, style))
        median = masked(self.head(x).reshape(len(x), -1, self.config.mel.n_mels)[:, :frames], mask)
        if modulation is None:
            return median.mT
        moved = masked(modulation.apply_to(median.mT, mask).mT, mask)
        return (self.postfilter(median, moved, x, style, mask) if self.postfilter else moved).mT


class DisentanglingVAE(PretrainedModel, config=DisentanglingConfig):
    """The three encoders and the decoder.

    Example:
        >>> import torch
        >>> model = DisentanglingVAE().eval()
        >>> voice = model.voice(torch.randn(1, 80, 300))
        >>> model.convert(torch.randn(1, 80, 101), voice).shape
        torch.Size([1, 80, 101])
    """

    def __init__(self, config: DisentanglingConfig | None = None) -> None:
        super().__init__()
        self.config = config or DisentanglingConfig()
        self.content = ContentEncoder(self.config)
        self.speaker = SpeakerEncoder(self.config)
        self.f0 = F0Encoder(self.config)
        self.decoder = Decoder(self.config)

    def voice(self, mel: Tensor, lengths: Tensor | None = None, *, valid_bands: Tensor | None = None) -> Voice:
        """The voice heard in mels (batch, n_mels, frames), one an utterance; `.average()` joins them.

        `valid_bands` (batch, n_mels) is 1 for the bands that the recording fills (`vcvae.features.mel.valid_band_mask`); None for all.
        """
        return Voice(
            self.reference(mel, self.content(mel, lengths).mean, lengths, valid_bands=valid_bands),
            self.f0(mel, lengths).statistics(),
        )

    def reference(
        self, mel: Tensor, content: Tensor, lengths: Tensor | None = None, *, valid_bands: Tensor | None = None
    ) -> SpeakerReference:
        """The reference heard in mels (batch, n_mels, frames) that say `content` (batch, latent, ceil(frames / 4))."""
        sound, mask = self.speaker.frames(mel, lengths, valid_bands=valid_bands)
        exists = torch.ones_like(sound[..., :1]) if mask is None else mask
        return SpeakerReference(self.speaker.summary(sound, mask).mean, content.mT, sound, exists)

    def modulation(
        self, mel: Tensor, lengths: Tensor | None = None, *, cutoff: float | None = None
    ) -> EnvelopeModulation:
        """How the envelopes of mels (batch, n_mels, frames) move, more quickly than a cutoff in Hz."""
        mask, frame_rate = frame_mask(lengths, mel.shape[2]), self.config.mel.frame_rate
        normalized, _ = normalize_level(mel, self.config.encoder_bands, mask)
        return EnvelopeModulation.of(normalized, mask, cutoff=(cutoff or self.config.modulation_cutoff) / frame_rate)

    def target_f0(
        self,
        mel: Tensor,
        voice: Voice,
        *,
        lengths: Tensor | None = None,
        f0_statistics: F0Statistics | None = None,
        pitch_shift: float = 0.0,
    ) -> F0Contour:
        """The contour of `mel` (batch, n_mels, frames) in the f0_statistics of `voice`, (batch, ceil(frames / 2)).

        `f0_statistics` is the source's own, where it is valid_bands from more than this piece (else it is measured here);
        `pitch_shift` is in semitones, on top of the move to the voice's f0_statistics.
        """
        f0 = self.f0(mel, lengths)
        return f0.transfer(f0_statistics or f0.statistics(), voice.f0_statistics).shift(pitch_shift / 12).within_range()

    def convert(
        self, mel: Tensor, voice: Voice, *, lengths: Tensor | None = None, target_f0: F0Contour | None = None
    ) -> Tensor:
        """Say what `mel` (batch, n_mels, frames) says with `voice` (one, or one an item) → like `mel`.

        `target_f0` is the contour to say it at, (batch, ceil(frames / 2)); by default, what the method of this name gives.
        """
        decoded = self.decoder(
            self.content(mel, lengths).mean,
            voice.reference.expand(len(mel)),
            target_f0 or self.target_f0(mel, voice, lengths=lengths),
            frames=mel.shape[2],
            lengths=lengths,
            modulation=self.modulation(mel, lengths),
        )
        mask, heard = frame_mask(lengths, mel.shape[2]), slice(self.config.encoder_bands)
        # The decoded level is measured and replaced: the result is as loud as its source, whatever the voice.
        gain = level(mel[:, heard], mask) - level(decoded[:, heard], mask)
        result = (decoded + gain).clamp(min=math.log(self.config.mel.floor))
        return (
            result if mask is None else result.masked_fill(mask.transpose(1, 2) == 0, math.log(self.config.mel.floor))
        )
