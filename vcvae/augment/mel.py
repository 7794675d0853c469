"""Random perturbation of a log-mel: the input of an encoder that must not depend on speaker, channel and noise."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from vcvae.config import Config, DecibelRange
from vcvae.features.mel import MelConfig, band_centres


class PerturbationConfig(Config):
    """Ranges of the perturbation, which is drawn anew for each utterance."""

    warp: float = Field(0.0, ge=0, lt=1, description="largest scaling of frequencies, F0 and formants alike")
    equalizer: float = Field(0.0, ge=0, le=60, description="dB; standard deviation of a smooth random equalizer")
    noise: float = Field(0.0, ge=0, le=1, description="probability that stationary noise is added to an utterance")
    noise_level: DecibelRange = Field((-45.0, -15.0), description="dB relative to the speech; range of the noise")


class Perturbation:
    """Perturbs log-mels (batch, n_mels, frames) by a configuration."""

    def __init__(self, config: PerturbationConfig, mel: MelConfig) -> None:
        self.config, self.centres = config, band_centres(mel)

    def __call__(self, mel: Tensor) -> Tensor:
        c, batch = self.config, len(mel)
        if c.warp:
            limit = math.log(1 + c.warp)
            mel = warp(mel, torch.exp(torch.empty(batch).uniform_(-limit, limit)), self.centres)
        if c.equalizer:
            mel = mel + smooth_curves(batch, mel.shape[1], c.equalizer).to(mel.device)[:, :, None]
        if c.noise:
            noise_level = torch.empty(batch).uniform_(*c.noise_level) * math.log(10) / 20
            noise_level = torch.where(torch.rand(batch) < c.noise, noise_level, -torch.inf)
            colour = smooth_curves(batch, mel.shape[1], 6.0) + noise_level[:, None]
            # Relative to the mean magnitude of the utterance; magnitudes of independent sounds add in energy.
            loudness = mel.exp().mean(dim=(1, 2)).log()
            noise = (colour.to(mel.device) + loudness[:, None])[:, :, None] + 0.5 * torch.randn_like(mel)
            mel = 0.5 * torch.logaddexp(2 * mel, 2 * noise)
        return mel


def warp(mel: Tensor, factors: Tensor, centres: Tensor) -> Tensor:
    """Warp the frequency axis, f → f / factor: mel (batch, n_mels, frames), centres (n_mels,) in Hz.

    Factors are (batch,), or (batch, n_mels), one for each band. Bands are interpolated linearly.
    """
    positions = centres * factors.reshape(len(factors), -1).to(centres)
    above = torch.searchsorted(centres, positions).clamp(1, len(centres) - 1)
    low, high = centres[above - 1], centres[above]
    fraction = ((positions - low) / (high - low)).clamp(0, 1)[:, :, None].to(mel)
    index = above[:, :, None].expand(-1, -1, mel.shape[2]).to(mel.device)
    return mel.gather(1, index - 1) * (1 - fraction) + mel.gather(1, index) * fraction


def warp_valid_bands(valid_bands: Tensor, factors: Tensor, centres: Tensor) -> Tensor:
    """The valid bands (batch, n_mels) of a mel after `warp`."""
    is_valid = warp(valid_bands[..., None], factors, centres)[..., 0] > 0.99
    # Bands that come from above the highest band are not valid.
    within = centres * factors.reshape(len(factors), -1).to(centres) <= centres[-1]
    return (is_valid & within.to(is_valid.device)).to(valid_bands)


def smooth_curves(batch: int, bands: int, decibels: float) -> Tensor:
    """Random curves over the bands (batch, n_mels), in nepers, made of the four lowest cosines."""
    position = torch.linspace(0, math.pi, bands)
    cosines = torch.stack([torch.cos(k * position) for k in range(1, 5)])
    return torch.randn(batch, 4) @ cosines * (decibels * math.log(10) / 20 / math.sqrt(2))
