"""Corruption of waveforms by noise, other voices and reverberation, and of mels by masking: denoising's inputs."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from vcvae.config import Config, DecibelRange, PositiveRange


class CorruptionConfig(Config):
    """Kinds and ranges of the corruption, which is drawn anew for each utterance."""

    noise: float = Field(0.5, ge=0, le=1, description="probability of added coloured noise")
    babble: float = Field(0.3, ge=0, le=1, description="probability of another utterance of the batch being added")
    snr: DecibelRange = Field((-2.0, 20.0), description="dB; range of the ratio of speech to added sound")
    reverberation: float = Field(0.3, ge=0, le=1, description="probability of reverberation")
    decay: PositiveRange = Field((0.1, 0.6), description="seconds; range of the reverberation time (60 dB)")
    gaussian: float = Field(0.0, ge=0, le=100, description="standard deviation of noise added to the log-mel")
    gaps: float = Field(0.0, ge=0, le=1, description="probability of masking an interval of frames and one of bands")


def amplify(samples: Tensor, decibels: tuple[float, float]) -> Tensor:
    """Scale each item of (batch, samples) by a random gain in a range of dB, at most to full scale."""
    gain = torch.empty(len(samples), 1, device=samples.device).uniform_(*decibels)
    peak = samples.abs().amax(dim=1, keepdim=True).clamp(min=1e-3)
    return samples * torch.minimum(10 ** (gain / 20), 1 / peak)


def corrupt(samples: Tensor, config: CorruptionConfig, *, sample_rate: int) -> Tensor:
    """Samples (batch, samples) with random noise, babble and reverberation, at the same level of speech."""
    batch = len(samples)

    def choose(probability: float) -> Tensor:
        return (torch.rand(batch, 1) < probability).to(samples)

    if config.reverberation:
        in_room = choose(config.reverberation)
        samples = in_room * reverberate(samples, config.decay, sample_rate=sample_rate) + (1 - in_room) * samples
    added = torch.zeros_like(samples)
    if config.noise:
        added = added + choose(config.noise) * _at_unit_power(coloured_noise(samples))
    if config.babble:
        added = added + choose(config.babble) * _at_unit_power(samples.roll(1, dims=0))
    snr = torch.empty(batch, 1).uniform_(*config.snr).to(samples)
    power = samples.square().mean(dim=1, keepdim=True).sqrt()
    return samples + power * 10 ** (-snr / 20) * _at_unit_power(added)


def mask(mel: Tensor, config: CorruptionConfig) -> Tensor:
    """Log-mels (batch, n_mels, frames) with noise, and with up to a fifth of frames and of bands set to the mean."""
    if config.gaussian:
        mel = mel + config.gaussian * torch.randn_like(mel)
    if config.gaps:
        chosen = torch.rand(len(mel), 1, 1) < config.gaps
        kept = ~(chosen.to(mel.device) & (_random_interval(mel, 2) | _random_interval(mel, 1)))
        mel = torch.where(kept, mel, mel.mean(dim=(1, 2), keepdim=True))
    return mel


def coloured_noise(like: Tensor) -> Tensor:
    """Stationary noise of the shape of `like` (batch, samples), with a power that falls by 0 to 6 dB per octave."""
    spectrum = torch.fft.rfft(torch.randn_like(like))
    frequency = torch.arange(1, spectrum.shape[-1] + 1, device=like.device)
    slope = torch.rand(len(like), 1).to(like)
    return torch.fft.irfft(spectrum * frequency**-slope, like.shape[-1])


def reverberate(samples: Tensor, decay: PositiveRange, *, sample_rate: int) -> Tensor:
    """Convolve samples (batch, samples) with noise of a random reverberation time in `decay`, seconds.

    The direct sound is not delayed, so that the speech stays aligned. The model of a room is that of Polack 1988.
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


def _random_interval(mel: Tensor, dim: int) -> Tensor:
    """True in a random interval along `dim`, for each item, of up to a fifth of its length."""
    size = mel.shape[dim]
    width = torch.randint(1, max(2, size // 5), (len(mel), 1))
    start = (torch.rand(len(mel), 1) * (size - width)).long()
    position = torch.arange(size)
    inside = ((position >= start) & (position < start + width)).to(mel.device)
    return inside[:, None, :] if dim == 2 else inside[:, :, None]
