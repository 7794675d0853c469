"""What is done to an encoder's input and not to the target: the denoising auto-encoder, turned against the speaker."""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vcvae.config import Config
from vcvae.features.mel import MelConfig, band_centres


class PerturbationConfig(Config):
    """How strongly a mel is perturbed; each strength is drawn anew for every utterance."""

    warp: float = Field(0.0, ge=0, description="frequencies are scaled by up to this fraction, as if f0 and tract were")
    equalizer: float = Field(0.0, ge=0, description="dB; standard deviation of a smooth random equaliser")
    noise: float = Field(0.0, ge=0, le=1, description="share of the utterances to which stationary noise is added")
    noise_level: tuple[float, float] = Field(
        (-45.0, -15.0), description="dB relative to the speech, drawn between these"
    )

    @model_validator(mode="after")
    def _is_ordered(self) -> PerturbationConfig:
        if self.noise_level[0] > self.noise_level[1]:
            raise ValueError("noise_level must rise")
        return self


class Perturbation:
    """Perturbs log-mels (batch, n_mels, frames) by a configuration."""

    def __init__(self, config: PerturbationConfig, mel: MelConfig) -> None:
        self.config, self.centres = config, band_centres(mel)

    def __call__(self, mel: Tensor) -> Tensor:
        c, batch = self.config, len(mel)
        if c.warp:
            spread = math.log(1 + c.warp)
            mel = warp(mel, torch.exp(torch.empty(batch).uniform_(-spread, spread)), self.centres)
        if c.equalizer:
            mel = mel + smooth_curves(batch, mel.shape[1], c.equalizer).to(mel.device)[:, :, None]
        if c.noise:
            level = torch.empty(batch).uniform_(*c.noise_level) * math.log(10) / 20
            level = torch.where(torch.rand(batch) < c.noise, level, -torch.inf)
            colour = smooth_curves(batch, mel.shape[1], 6.0) + level[:, None]
            # Relative to the mean magnitude of the utterance; magnitudes of independent sounds add in energy.
            loudness = mel.exp().mean(dim=(1, 2)).log()
            noise = (colour.to(mel.device) + loudness[:, None])[:, :, None] + 0.5 * torch.randn_like(mel)
            mel = 0.5 * torch.logaddexp(2 * mel, 2 * noise)
        return mel


def warp(mel: Tensor, factors: Tensor, centres: Tensor) -> Tensor:
    """Move what is at f to f / factor: mel (batch, n_mels, frames), centres (n_mels,) in Hz.

    Factors are (batch,), or (batch, n_mels) where each band has its own.
    """
    wanted = centres * factors.reshape(len(factors), -1).to(centres)
    above = torch.searchsorted(centres, wanted).clamp(1, len(centres) - 1)
    low, high = centres[above - 1], centres[above]
    fraction = ((wanted - low) / (high - low)).clamp(0, 1)[:, :, None].to(mel)
    index = above[:, :, None].expand(-1, -1, mel.shape[2]).to(mel.device)
    return mel.gather(1, index - 1) * (1 - fraction) + mel.gather(1, index) * fraction


def warp_valid_bands(valid_bands: Tensor, factors: Tensor, centres: Tensor) -> Tensor:
    """The bands of which something is valid_bands after `warp`, as `valid_bands` (batch, n_mels) says of those before."""
    whole = warp(valid_bands[..., None], factors, centres)[..., 0] > 0.99
    # What would come from above the highest band was never recorded.
    within = centres * factors.reshape(len(factors), -1).to(centres) <= centres[-1]
    return (whole & within.to(whole.device)).to(valid_bands)


def smooth_curves(batch: int, bands: int, decibels: float) -> Tensor:
    """Random curves over the bands (batch, n_mels), in nepers, made of the four slowest cosines."""
    position = torch.linspace(0, math.pi, bands)
    cosines = torch.stack([torch.cos(k * position) for k in range(1, 5)])
    return torch.randn(batch, 4) @ cosines * (decibels * math.log(10) / 20 / math.sqrt(2))
