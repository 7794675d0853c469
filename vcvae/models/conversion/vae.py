"""The disentangling variational auto-encoder: content and speaker in two latents.

A mel goes through three encoders: content (instance-normalized, a slow and narrow Gaussian), speaker (one embedding,
and a feature for each frame) and F0 (a contour). The decoder reconstructs the mel from their outputs. To convert, it
takes the speaker of another utterance, and the F0 contour transferred to that speaker's F0 statistics. Instance
normalization to remove the speaker and AdaIN to add another one follow AdaIN-VC (Chou et al. 2019, arXiv:1904.05742).
Modulations of the spectral envelope that are too fast for the narrow content latent are copied from the source
(`modulation.py`).

The content and F0 encoders get the bands below `encoder_f_max`, which every recording has. The speaker encoder gets
all bands, since higher bands distinguish speakers, and a mask of the valid bands, so that it cannot use the bandwidth
of a recording as a speaker cue. No encoder gets the level: the decoder works at level zero and the source's level is
added at the end. All frame rates below are those of the default mel, 86 frames per second.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0_BINS, F0Contour, F0Statistics
from vcvae.features.mel import MEL_MEAN, MelConfig, standardize
from vcvae.features.mel_scale import mel_frequencies
from vcvae.models.conversion.modulation import EnvelopeModulation
from vcvae.models.conversion.postfilter import Postfilter
from vcvae.models.conversion.voice import SpeakerReference, Voice
from vcvae.models.distributions import Gaussian, squash
from vcvae.models.f0_classifier import F0Classifier
from vcvae.models.hub import PretrainedModel
from vcvae.models.layers import (
    AdaptiveInstanceNorm,
    AdaptiveResidualBlock,
    Convolution,
    CrossAttention,
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

REDUCTION = 4  # mel frames per content frame
CENTRE_MOMENTUM = 0.01  # weight of a batch in the running mean of speaker embeddings


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
    statistics_latent: int = Field(96, gt=0, le=1024, description="dimensions to which these are projected")
    conditional_rank: int = Field(
        0, ge=0, le=512, description="rank of the part of the decoder's matrices that depends on the speaker"
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
        self.head = nn.Linear(slow, 2 * config.content_latent)
        self.scale = nn.Parameter(torch.ones(config.content_latent))

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Gaussian:
        """Mel (batch, n_mels, frames), lengths (batch,) in frames → Gaussian of (batch, latent, ceil(frames / 4))."""
        x, mask = _prepare_lower_bands(mel, lengths, self.config, self.level)
        # Normalizing each band removes any fixed filter: the microphone's, and the long-term spectrum of the voice.
        x, mask = self.stem(self.norm(x, mask)), halved(mask)
        for block in self.fast:
            x = block(x, mask)
        x, mask = self.reduce(masked(self.norm(x, mask), mask)), halved(mask)
        for block in self.slow:
            x = block(x, mask)
        mean, log_variance = self.head(self.norm(x, mask)).chunk(2, dim=2)
        # Per-utterance variance leaks the speaker: normalize each dimension, then apply one learned scale for all.
        mean = self.norm(mean, mask) * self.scale
        log_variance = masked(squash(log_variance, self.config.log_variance_bound), mask)
        return Gaussian(mean.mT, log_variance.mT)


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
            self.centre.lerp_(embedding.detach().mean(dim=0), CENTRE_MOMENTUM)
        return embedding

    def centred(self, embeddings: Tensor) -> Tensor:
        """Speaker embeddings (…, speaker_latent) less their mean over the training data, of unit length again.

        Their cosines tell speakers apart better. The decoder takes embeddings as they are.
        """
        return F.normalize(embeddings - self.centre, dim=-1)

    def uncentred(self, directions: Tensor) -> Tensor:
        """The speaker embeddings (…, speaker_latent) whose `centred` are these: where the rays meet the unit sphere."""
        along = directions @ self.centre
        length = (along.square() + 1 - self.centre.square().sum()).clamp(min=0).sqrt() - along
        return F.normalize(self.centre + length[..., None] * directions, dim=-1)


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


class Decoder(nn.Module):
    """Content, speaker reference and F0 → log-mel at level zero.

    With the speaker embedding alone, the decoder gives an unseen speaker the voice of the nearest training speaker. So
    after each slow block there is a cross-attention to the frames of the reference: each frame attends to those with
    similar content.

    Example:
        >>> import torch
        >>> f0 = F0Contour(torch.full((2, 51), 7.0), torch.ones(2, 51))
        >>> keys, values, mask = torch.randn(2, 70, 64), torch.randn(2, 70, 160), torch.ones(2, 70, 1)
        >>> reference = SpeakerReference(torch.randn(2, 128), torch.zeros(2, 0), keys, values, mask)
        >>> Decoder(DisentanglingConfig())(torch.randn(2, 64, 26), reference, f0, frames=101).shape
        torch.Size([2, 80, 101])
    """

    def __init__(self, config: DisentanglingConfig) -> None:
        super().__init__()
        self.config = config
        fast, slow = config.fast_channels, config.slow_channels
        self.style = nn.Sequential(nn.Linear(config.speaker_latent, slow), nn.GELU())
        self.statistics_style = nn.Linear(config.statistics_latent, slow) if config.speaker_statistics else None

        def blocks(count: int, channels: int) -> nn.ModuleList:
            return nn.ModuleList(
                AdaptiveResidualBlock(channels, kernel=config.kernel, condition=slow, rank=config.conditional_rank)
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
        postfilter: bool = False,
    ) -> Tensor:
        """Content (batch, latent, ceil(frames / 4)), reference and F0 → mel (batch, n_mels, frames).

        Without options it is the median of the likelihood (Laplace).

        Args:
            lengths: (batch,) in frames; None where nothing is padded.
            modulation: of the utterance that the content is from; the mel gets it in place of its own.
            postfilter: apply the postfilter, where the model has one.
        """
        mask = frame_mask(lengths, frames)
        half, quarter = halved(mask), halved(halved(mask))
        linear, activation = self.style
        style = linear(reference.embedding * self.config.speaker_latent**0.5)
        if self.statistics_style is not None:
            style = style + self.statistics_style(F.normalize(reference.statistics, dim=-1))
        style = activation(style)
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
        modulated = median
        if modulation is not None:
            modulated = masked(modulation.apply_to(median.mT, mask).mT, mask)
        if postfilter and self.postfilter is not None:
            return self.postfilter(median, modulated, x, style, mask).mT
        return modulated.mT


class DisentanglingVAE(PretrainedModel, config=DisentanglingConfig):
    """The conversion model: the three encoders and the decoder. The method `convert` is the whole conversion.

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
        self.level = Level(self.config.encoder_bands)
        self.decoded_level = Level(self.config.encoder_bands)
        self.content = ContentEncoder(self.config)
        self.speaker = SpeakerEncoder(self.config)
        self.f0 = F0Encoder(self.config)
        self.statistics = None
        if self.config.speaker_statistics:
            self.statistics = StatisticsProjection(self.config.speaker_statistics, self.config.statistics_latent)
        self.decoder = Decoder(self.config)

    def voice(
        self,
        mel: Tensor,
        lengths: Tensor | None = None,
        *,
        valid_bands: Tensor | None = None,
        statistics: Tensor | None = None,
    ) -> Voice:
        """The voices of mels (batch, n_mels, frames), one for each utterance; `.average()` joins them.

        Args:
            lengths: (batch,) in frames; None where nothing is padded.
            valid_bands: (batch, n_mels), 1 for the bands within the recording's bandwidth
                (`vcvae.features.mel.valid_band_mask`); None for all.
            statistics: (batch, speaker_statistics) of `SpeakerSimilarityNet`, for a model that takes them; it makes do
                without.
        """
        content = self.content(mel, lengths).mean
        reference = self.reference(mel, content, lengths, valid_bands=valid_bands, statistics=statistics)
        if valid_bands is None:
            valid_bands = torch.ones_like(mel[..., 0])
        return Voice(reference, self.f0(mel, lengths).statistics(), valid_bands)

    def reference(
        self,
        mel: Tensor,
        content: Tensor,
        lengths: Tensor | None = None,
        *,
        valid_bands: Tensor | None = None,
        statistics: Tensor | None = None,
    ) -> SpeakerReference:
        """The speaker reference of mels (batch, n_mels, frames) and their content (batch, latent, ceil(frames / 4)).

        The options are those of `voice`.
        """
        values, mask = self.speaker.frames(mel, lengths, valid_bands=valid_bands)
        embedding = self.speaker.embed_frames(values, mask)
        if mask is None:
            mask = torch.ones_like(values[..., :1])
        projected = mel.new_zeros(len(mel), 0)
        if self.statistics is not None:
            projected = self.statistics(
                self.statistics.centre.expand(len(mel), -1) if statistics is None else statistics
            )
        return SpeakerReference(embedding, projected, content.mT, values, mask)

    def modulation(
        self, mel: Tensor, lengths: Tensor | None = None, *, cutoff: float | None = None
    ) -> EnvelopeModulation:
        """The envelope modulation of mels (batch, n_mels, frames) above a cutoff in Hz, by default the model's."""
        mask = frame_mask(lengths, mel.shape[2])
        normalized = mel - self.level(mel, mask)
        cutoff = (cutoff or self.config.modulation_cutoff) / self.config.mel.frame_rate
        return EnvelopeModulation.from_mel(normalized, mask, cutoff=cutoff)

    def target_f0(
        self,
        mel: Tensor,
        voice: Voice,
        *,
        lengths: Tensor | None = None,
        f0_statistics: F0Statistics | None = None,
        pitch_shift: float = 0.0,
    ) -> F0Contour:
        """The F0 contour of `mel` (batch, n_mels, frames), transferred to `voice`: (batch, ceil(frames / 2)).

        Args:
            f0_statistics: of the whole source, where `mel` is a part of it; by default those of `mel`.
            pitch_shift: semitones, added after the transfer.
        """
        f0 = self.f0(mel, lengths)
        transferred = f0.transfer(f0_statistics or f0.statistics(), voice.f0_statistics)
        return transferred.shift(pitch_shift / 12).within_range()

    def decoder_for(self, voice: Voice) -> Decoder:
        """The decoder with what `voice` has learned; the model's own, where that is nothing."""
        return voice.learned.applied_to(self.decoder) if voice.learned else self.decoder

    def convert(
        self, mel: Tensor, voice: Voice, *, lengths: Tensor | None = None, target_f0: F0Contour | None = None
    ) -> Tensor:
        """Convert `mel` (batch, n_mels, frames) to `voice` (one, or one for each item) → like `mel`.

        What the voice has learned is applied to the decoder. `target_f0` is the F0 contour of the conversion, (batch,
        ceil(frames / 2)); by default the method's.
        """
        decoded = self.decode_content(mel, voice, lengths=lengths, target_f0=target_f0)
        mask = frame_mask(lengths, mel.shape[2])
        # The conversion gets the level of its source, whatever the voice.
        gain = self.level(mel, mask) - self.decoded_level(decoded, mask)
        log_floor = math.log(self.config.mel.floor)
        converted = (decoded + gain).clamp(min=log_floor)
        return converted if mask is None else converted.masked_fill(mask.transpose(1, 2) == 0, log_floor)

    def decode_content(
        self, mel: Tensor, voice: Voice, *, lengths: Tensor | None = None, target_f0: F0Contour | None = None
    ) -> Tensor:
        """`convert` at the decoder's own level: without the level of the source, and without a floor."""
        return self.decoder_for(voice)(
            self.content(mel, lengths).mean,
            voice.reference.expand(len(mel)),
            target_f0 or self.target_f0(mel, voice, lengths=lengths),
            frames=mel.shape[2],
            lengths=lengths,
            modulation=self.modulation(mel, lengths),
            postfilter=True,
        )
