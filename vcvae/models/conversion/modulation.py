"""EnvelopeModulation: the quick movements of the spectral envelope, which are what is said more than who says it.

What stays in an envelope is its speaker, the microphone and the room; what moves several times a second is speech.
Without the modulations above 4 Hz it is hardly understood (Drullman, Festen & Plomp 1994, doi:10.1121/1.408467), and
recognizers have long been given them alone (RASTA, Hermansky & Morgan 1994, doi:10.1109/89.326616).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.features.cepstrum import cepstrum, from_cepstrum
from vcvae.models.layers import Mask

QUIET = -9.5  # ln; bands of level-zero mels below this are silence, and what moves there is noise


@dataclass(frozen=True)
class EnvelopeModulation:
    """How the envelopes of a batch of utterances move.

    The cepstra of log-mels, less what a Gaussian leaves of them that passes half of the power at the cutoff:
    `moves` (batch, cepstra, frames), and `cutoff` in cycles a frame. A gain and a fixed filter leave no trace.
    """

    moves: Tensor
    cutoff: float

    @classmethod
    def of(cls, mel: Tensor, mask: Mask = None, *, cutoff: float) -> EnvelopeModulation:
        """The modulation of log-mels (batch, n_mels, frames) at level zero."""
        x = cepstrum(mel.clamp(min=QUIET))
        weight = torch.ones_like(x[:, :1]) if mask is None else mask.mT
        spread = math.sqrt(math.log(2)) / (2 * math.pi * cutoff)
        reach = math.ceil(3 * spread)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=mel.device) / spread).square())[None, None]

        def smooth(y: Tensor) -> Tensor:
            return F.conv1d(y.flatten(0, 1)[:, None], kernel, padding=reach).view_as(y)

        # Divided by what of the Gaussian lies within the utterance: its ends are no movement.
        return cls((x - smooth(x * weight) / smooth(weight).clamp(min=1e-6)) * weight, cutoff)

    def apply_to(self, mel: Tensor, mask: Mask = None) -> Tensor:
        """Log-mels (batch, n_mels, frames) at level zero that move so, and else are as these."""
        own = self.of(mel, mask, cutoff=self.cutoff)
        return mel + from_cepstrum(self.moves - own.moves, mel.shape[1])
