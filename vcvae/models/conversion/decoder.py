"""The decoder of the disentangling VAE: content, speaker reference and F0 to a mel.

It works at level zero; the source's level is added after it. Modulations of the spectral envelope that are too fast
for the narrow content latent are copied from the source (`modulation.py`).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.features.f0 import F0_BINS, F0Contour
from vcvae.features.mel import MEL_MEAN
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.modulation import EnvelopeModulation
from vcvae.models.conversion.postfilter import Postfilter
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.layers import (
    AdaptiveInstanceNorm,
    AdaptiveResidualBlock,
    Convolution,
    CrossAttention,
    frame_mask,
    halved,
    masked,
)


class Decoder(nn.Module):
    """Content, speaker reference and F0 → log-mel at level zero.

    With the speaker embedding alone, the decoder gives an unseen speaker the voice of the nearest training speaker. So
    after each slow block there is a cross-attention to the frames of the reference: each frame attends to those with
    similar content. Where the matrices of the blocks depend on the speaker, a mapping network makes of it what they are
    conditioned on (Karras et al. 2019, arXiv:1812.04948).

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
        self.mapping = None
        if config.conditional_rank:
            self.mapping = nn.Sequential(nn.Linear(slow, 2 * slow), nn.GELU(), nn.Linear(2 * slow, slow))
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
                rank=config.conditional_rank,
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
        if self.mapping is not None:
            style = style + self.mapping(style)
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
