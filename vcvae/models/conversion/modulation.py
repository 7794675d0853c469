"""Fast modulations of the spectral envelope, which carry content more than speaker.

The mean of the envelope depends on the speaker, the microphone and the room; speech modulates it several times per
second. Speech without modulations above 4 Hz is hardly intelligible (Drullman, Festen & Plomp 1994,
doi:10.1121/1.408467), and recognizers have long used such modulations alone (RASTA, Hermansky & Morgan 1994,
doi:10.1109/89.326616).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.features.cepstrum import cepstrum, from_cepstrum
from vcvae.models.layers import Mask

MODULATION_FLOOR = -9.5  # ln; level-zero mels are clamped here: modulations of lower bands are noise


@dataclass(frozen=True)
class EnvelopeModulation:
    """The high-pass filtered cepstra of log-mels, for a batch of utterances.

    `values` (batch, cepstra, frames) are the cepstra minus their convolution with a Gaussian that passes half of the
    power at `cutoff`, in cycles per frame. They are invariant to a gain and to any fixed filter.
    """

    values: Tensor
    cutoff: float

    @classmethod
    def from_mel(cls, mel: Tensor, mask: Mask = None, *, cutoff: float) -> EnvelopeModulation:
        """The modulation of log-mels (batch, n_mels, frames) at level zero; `cutoff` in cycles per frame."""
        x = cepstrum(mel.clamp(min=MODULATION_FLOOR))
        weight = torch.ones_like(x[:, :1]) if mask is None else mask.mT
        std = math.sqrt(math.log(2)) / (2 * math.pi * cutoff)
        radius = math.ceil(3 * std)
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=mel.device) / std).square())[None, None]

        def smooth(y: Tensor) -> Tensor:
            return F.conv1d(y.flatten(0, 1)[:, None], kernel, padding=radius).view_as(y)

        # Normalized by the part of the Gaussian within the utterance, so that its ends cause no modulation.
        return cls((x - smooth(x * weight) / smooth(weight).clamp(min=1e-6)) * weight, cutoff)

    def apply_to(self, mel: Tensor, mask: Mask = None) -> Tensor:
        """Log-mels (batch, n_mels, frames) at level zero with this modulation in place of their own."""
        own = self.from_mel(mel, mask, cutoff=self.cutoff)
        return mel + from_cepstrum(self.values - own.values, mel.shape[1])
