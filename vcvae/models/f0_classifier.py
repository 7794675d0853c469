"""The F0 contour of a mel, by a network: the converter and the vocoder each have one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcvae.features.f0 import F0_BINS, F0Contour, from_bins
from vcvae.models.layers import Convolution, FrameNorm, Mask, ResidualBlock, halved, masked


class F0Classifier(nn.Module):
    """Frames → an F0 contour, learned from YIN on the waveform: a classifier over F0 bins, as CREPE.

    Kim et al. 2018 (arXiv:1802.06182). The receptive field is bounded, so a recording can be processed in pieces.

    Example:
        >>> import torch
        >>> scores, voiced = F0Classifier(80, channels=32, blocks=1, kernel=3).logits(torch.randn(2, 101, 80))
        >>> scores.shape, voiced.shape
        (torch.Size([2, 51, 64]), torch.Size([2, 51]))
    """

    def __init__(self, bands: int, *, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.stem = Convolution(bands, channels, kernel=5, stride=2)
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, kernel=kernel, norm=FrameNorm(channels)) for _ in range(blocks)
        )
        self.norm = FrameNorm(channels)
        self.head = nn.Linear(channels, F0_BINS + 1)

    def logits(self, x: Tensor, mask: Mask = None) -> tuple[Tensor, Tensor]:
        """x (batch, frames, bands), of about zero mean and unit variance → logits of the F0 bins
        (batch, ceil(frames / 2), bins) and of voicing (batch, ceil(frames / 2)).
        """
        x, mask = self.stem(x), halved(mask)
        x = masked(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        scores = self.head(self.norm(x, mask))
        if mask is not None:
            scores = scores.masked_fill(mask == 0, -1e4)
        return scores[..., :-1], scores[..., -1]

    def decode(self, scores: Tensor, voiced: Tensor) -> F0Contour:
        """Logits → contour: the mean of the bins within three of the best one.

        This resolves F0 more finely than one bin, and scores an octave away do not shift it.
        """
        bins = torch.arange(F0_BINS, device=scores.device)
        near = (bins - scores.argmax(dim=-1, keepdim=True)).abs() <= 3
        weight = scores.masked_fill(~near, -torch.inf).softmax(dim=-1)
        return F0Contour(from_bins((weight * bins).sum(dim=-1)), voiced.sigmoid())
