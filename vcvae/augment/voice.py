"""Voices that nobody has: real ones, of another vocal tract and through another filter.

A decoder that has heard some hundred voices makes of a new one the nearest of these. It hears as many as there are
steps where the formants of a speaker are moved and the long-term spectrum is bent, in all the segments alike: then how
a voice sounds must be told from its exemplars. F0Contour is not touched, that the two may part company. Moving the formants
of recordings is due to Jaitly & Hinton 2013 (vocal tract length perturbation, ICML workshop on speech and audio).
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
    """How far from a real voice one may be that is made of it; each is drawn anew for every speaker of a batch."""

    probability: float = Field(0.5, ge=0, le=1, description="of the speakers, whose voice is changed")
    warp: float = Field(0.15, ge=0, lt=1, description="their formants are scaled by up to this fraction")
    formant_tilt: float = Field(
        0.06, ge=0, lt=1, description="… and the low and the high ones against each other by up to this"
    )
    equalizer: float = Field(3.0, ge=0, description="dB; standard deviation of a smooth filter")


class VoiceAugmentation:
    """Changes the voices of level-zero log-mels (batch, n_mels, frames), in which segments lie as in `SegmentBatch`."""

    def __init__(self, config: VoiceAugmentationConfig, mel: MelConfig, segments: int) -> None:
        self.config, self.segments, self.centres = config, segments, band_centres(mel)

    def __call__(self, mel: Tensor, valid_bands: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mels and valid_bands bands (batch, n_mels) → the same of other voices, and which these are, (batch,) of bool."""
        c, speakers, bands = self.config, len(mel) // self.segments, mel.shape[1]

        def drawn(size: float) -> Tensor:
            return torch.empty(speakers, 1).uniform_(-1, 1) * math.log(1 + size)

        across = torch.cos(torch.linspace(0, math.pi, bands))
        chosen = torch.rand(speakers, 1) < c.probability
        factors = torch.where(chosen, torch.exp(drawn(c.warp) + drawn(c.formant_tilt) * across), 1.0)
        filters = torch.where(chosen, smooth_curves(speakers, bands, c.equalizer), 0.0)
        chosen, factors, filters = (x.repeat(self.segments, 1) for x in (chosen, factors, filters))
        chosen, filters = chosen.to(mel.device), filters.to(mel.device)
        # Above what a recording holds it goes on as it ends: the edge is no formant.
        last = valid_bands.sum(dim=1).long().clamp(min=1) - 1
        index = torch.minimum(torch.arange(bands, device=mel.device), last[:, None])
        full = mel.gather(1, index[:, :, None].expand_as(mel))
        envelope = from_cepstrum(cepstrum(full), bands)
        moved = warp(envelope, factors, self.centres) + filters[:, :, None]
        return (
            torch.where(chosen[..., None], mel - envelope + moved, mel),
            torch.where(chosen, warp_valid_bands(valid_bands, factors, self.centres), valid_bands),
            chosen[:, 0],
        )
