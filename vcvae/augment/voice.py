"""Voice augmentation: new voices by vocal tract length perturbation and a smooth filter.

A decoder trained on a few hundred voices converts to the nearest of them. So the formants and the long-term spectrum of
some speakers are changed, equally in all segments of a speaker and anew in each step: the decoder must then take the
voice from the reference. F0 is not changed, so that it does not predict the formants. Vocal tract length perturbation:
Jaitly & Hinton 2013 (ICML workshop on deep learning for audio, speech and language processing).
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from vcvae.augment.mel import smooth_curves, warp, warp_valid_bands
from vcvae.config import Config
from vcvae.features.cepstrum import cepstrum, from_cepstrum
from vcvae.features.mel import MelConfig, band_centres


class VoiceAugmentationConfig(Config):
    """Ranges of the change, which is drawn anew for each speaker of a batch."""

    probability: float = Field(0.5, ge=0, le=1, description="probability that a speaker's voice is changed")
    warp: float = Field(0.15, ge=0, lt=1, description="fraction by which formants are scaled at most")
    formant_tilt: float = Field(
        0.06, ge=0, lt=1, description="fraction by which low and high formants are scaled in opposite directions"
    )
    equalizer: float = Field(3.0, ge=0, le=60, description="dB; standard deviation of a smooth filter")


class VoiceAugmentation:
    """Changes the voices of level-normalized log-mels (batch, n_mels, frames), a segment-major batch of speakers."""

    def __init__(self, config: VoiceAugmentationConfig, mel: MelConfig, segments: int) -> None:
        self.config, self.segments, self.centres = config, segments, band_centres(mel)

    def __call__(self, mel: Tensor, valid_bands: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mels and valid bands (batch, n_mels) → those of changed voices, and which are changed, (batch,) of bool."""
        c, speakers, bands = self.config, len(mel) // self.segments, mel.shape[1]

        def random_log_factor(size: float) -> Tensor:
            return torch.empty(speakers, 1).uniform_(-1, 1) * math.log(1 + size)

        tilt = torch.cos(torch.linspace(0, math.pi, bands))
        chosen = torch.rand(speakers, 1) < c.probability
        factors = torch.where(
            chosen, torch.exp(random_log_factor(c.warp) + random_log_factor(c.formant_tilt) * tilt), 1.0
        )
        filters = torch.where(chosen, smooth_curves(speakers, bands, c.equalizer), 0.0)
        factors = factors.repeat(self.segments, 1)
        chosen = chosen.repeat(self.segments, 1).to(mel.device)
        filters = filters.repeat(self.segments, 1).to(mel.device)
        # Above its bandwidth a recording continues its last valid band, so that the edge is not warped.
        last = valid_bands.sum(dim=1).long().clamp(min=1) - 1
        index = torch.minimum(torch.arange(bands, device=mel.device), last[:, None])
        extended = mel.gather(1, index[:, :, None].expand_as(mel))
        envelope = from_cepstrum(cepstrum(extended), bands)
        warped = warp(envelope, factors, self.centres) + filters[:, :, None]
        return (
            torch.where(chosen[..., None], mel - envelope + warped, mel),
            torch.where(chosen, warp_valid_bands(valid_bands, factors, self.centres), valid_bands),
            chosen[:, 0],
        )
