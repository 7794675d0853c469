"""What happens to speech before it is recorded: noise, other voices, a room; and to a mel: gaps.

A denoising auto-encoder hears the result and is to give what there was before.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vcvae.config import Config


class CorruptionConfig(Config):
    """Which utterances are corrupted, and how; each is drawn anew every time."""

    noise: float = Field(0.5, ge=0, le=1, description="share of the utterances with coloured noise added")
    babble: float = Field(0.3, ge=0, le=1, description="share with another utterance of the batch added")
    snr: tuple[float, float] = Field((-2.0, 20.0), description="dB; speech over what is added, drawn between these")
    reverberation: float = Field(0.3, ge=0, le=1, description="share that stands in a room")
    decay: tuple[float, float] = Field((0.1, 0.6), description="seconds in which the room's echo falls by 60 dB")
    gaussian: float = Field(0.0, ge=0, description="standard deviation of noise added to the log-mel")
    gaps: float = Field(0.0, ge=0, le=1, description="share with a stretch of frames and one of bands taken away")

    @model_validator(mode="after")
    def _is_ordered(self) -> CorruptionConfig:
        if self.snr[0] > self.snr[1] or not 0 < self.decay[0] <= self.decay[1]:
            raise ValueError("snr and decay go from the lower to the higher, and decay begins above 0")
        return self


def amplify(samples: Tensor, decibels: tuple[float, float]) -> Tensor:
    """Each item (batch, samples) by a random gain between two, in dB, at most to full scale."""
    gain = torch.empty(len(samples), 1, device=samples.device).uniform_(*decibels)
    peak = samples.abs().amax(dim=1, keepdim=True).clamp(min=1e-3)
    return samples * torch.minimum(10 ** (gain / 20), 1 / peak)


def corrupt(samples: Tensor, config: CorruptionConfig, *, sample_rate: int) -> Tensor:
    """Samples (batch, samples) as they might have been recorded, at the same level of speech."""
    batch = len(samples)

    def some(share: float) -> Tensor:
        return (torch.rand(batch, 1) < share).to(samples)

    if config.reverberation:
        in_room = some(config.reverberation)
        samples = in_room * reverberate(samples, config.decay, sample_rate=sample_rate) + (1 - in_room) * samples
    added = torch.zeros_like(samples)
    if config.noise:
        added = added + some(config.noise) * _at_unit_power(coloured_noise(samples))
    if config.babble:
        added = added + some(config.babble) * _at_unit_power(samples.roll(1, dims=0))
    snr = torch.empty(batch, 1).uniform_(*config.snr).to(samples)
    power = samples.square().mean(dim=1, keepdim=True).sqrt()
    return samples + power * 10 ** (-snr / 20) * _at_unit_power(added)


def mask(mel: Tensor, config: CorruptionConfig) -> Tensor:
    """Log-mels (batch, n_mels, frames) with gaps, at the mean, of up to a fifth of the frames and of the bands."""
    if config.gaussian:
        mel = mel + config.gaussian * torch.randn_like(mel)
    if config.gaps:
        chosen = torch.rand(len(mel), 1, 1) < config.gaps
        kept = ~(chosen.to(mel.device) & (_stretch(mel, 2) | _stretch(mel, 1)))
        mel = torch.where(kept, mel, mel.mean(dim=(1, 2), keepdim=True))
    return mel


def coloured_noise(like: Tensor) -> Tensor:
    """Stationary noise of the shape of `like` (batch, samples), whose power falls by 0 to 6 dB an octave."""
    spectrum = torch.fft.rfft(torch.randn_like(like))
    frequency = torch.arange(1, spectrum.shape[-1] + 1, device=like.device)
    slope = torch.rand(len(like), 1).to(like)
    return torch.fft.irfft(spectrum * frequency**-slope, like.shape[-1])


def reverberate(samples: Tensor, decay: tuple[float, float], *, sample_rate: int) -> Tensor:
    """Samples (batch, samples) in rooms whose response is noise that decays by 60 dB in between `decay` seconds.

    The direct sound comes first and undelayed, so that the speech stays where it was (Polack 1988's model of a room).
    """
    seconds = torch.empty(len(samples), 1).uniform_(*decay).to(samples)
    time = torch.arange(round(decay[1] * sample_rate), device=samples.device) / sample_rate
    response = torch.randn(len(samples), len(time)).to(samples) * 10 ** (-3 * time / seconds)
    echo = torch.empty(len(samples), 1).uniform_(-10, 3).to(samples)  # dB, over the direct sound
    response = _at_unit_power(response) / math.sqrt(len(time)) * 10 ** (echo / 20)
    response[:, 0] = 1.0
    size = samples.shape[1] + len(time)
    product = torch.fft.rfft(samples, size) * torch.fft.rfft(response, size)
    return torch.fft.irfft(product, size)[:, : samples.shape[1]]


def _at_unit_power(samples: Tensor) -> Tensor:
    return samples / samples.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)


def _stretch(mel: Tensor, dim: int) -> Tensor:
    """True along a stretch of `dim`, another one in each item, of up to a fifth of its length."""
    size = mel.shape[dim]
    width = torch.randint(1, max(2, size // 5), (len(mel), 1))
    start = (torch.rand(len(mel), 1) * (size - width)).long()
    place = torch.arange(size)
    inside = ((place >= start) & (place < start + width)).to(mel.device)
    return inside[:, None, :] if dim == 2 else inside[:, :, None]
