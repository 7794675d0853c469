"""Log-mel spectrograms in HiFi-GAN's convention, so that public vocoders can be used; their level and bandwidth."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.mel_scale import mel_filters, mel_frequencies

# The bandwidth ends where the mean level falls below either of these: dB relative to the strongest frequency (below it,
# codecs and resamplers leave residues), and dB of full scale in one bin (16-bit rounding noise lies at -77).
RELATIVE_FLOOR, ABSOLUTE_FLOOR = -75.0, -71.0
BANDWIDTH_WINDOW = 1024  # samples of a spectrum from which the bandwidth is measured
MAX_FRAME_RATE = 400  # frames per second
MAX_SPECTRA = 20_000  # from which the bandwidth is measured: of recordings of 8 minutes, all; of longer ones, fewer
# Mean and standard deviation of a log-mel of speech at level zero (see `normalize_level`), over bands and frames.
MEL_MEAN, MEL_STD = -4.5, 2.0


class MelConfig(Config):
    """Parameters of a log-mel spectrogram. Saved with all weights; networks that work together must agree on it."""

    sample_rate: int = Field(22050, ge=1000, le=384_000, description="Hz")
    n_fft: int = Field(1024, ge=16, le=8192, description="samples; length of the Fourier transform")
    window: int = Field(1024, ge=16, le=8192, description="samples; length of the Hann window")
    hop: int = Field(256, gt=0, le=2048, description="samples between frames: 86.1 frames per second")
    n_mels: int = Field(80, gt=0, le=1024, description="Slaney bands of equal area")
    f_min: float = Field(0.0, ge=0, le=192_000, description="Hz; lower edge of the lowest band")
    f_max: float = Field(8000.0, gt=0, le=192_000, description="Hz; upper edge of the highest band")
    floor: float = Field(1e-5, gt=0, le=1, description="smallest magnitude; ln(1e-5) = -11.5")

    @model_validator(mode="after")
    def _holds_together(self) -> MelConfig:
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError("f_min must lie below f_max, and f_max not above half the sample rate")
        if self.frame_rate > MAX_FRAME_RATE:
            raise ValueError(f"hop must be a {MAX_FRAME_RATE}th of sample_rate or more: memory grows with the frames")
        if self.window > self.n_fft or self.hop > self.n_fft or (self.n_fft - self.hop) % 2:
            raise ValueError("window and hop must not exceed n_fft, and n_fft - hop must be even")
        if self.n_mels > self.n_fft // 2 or self.f_max - self.f_min < 4 * self.sample_rate / self.n_fft:
            raise ValueError("the bands are more than the bins of n_fft, or lie between two bins; raise n_fft")
        return self

    @property
    def minimum_samples(self) -> int:
        """The shortest signal that can be reflect-padded, in samples."""
        return (self.n_fft - self.hop) // 2 + 1

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    def require_equal(self, other: MelConfig, *, ours: str, theirs: str) -> None:
        """Raise a VcvaeError that names the first field in which two configurations differ."""
        for name in type(self).model_fields:
            a, b = getattr(self, name), getattr(other, name)
            if a != b:
                raise VcvaeError(
                    f"the mel of {ours} and of {theirs} differ in '{name}' ({a} and {b}); "
                    "use two parts made for the same mel."
                )


class MelSpectrogram(nn.Module):
    """Waveforms → natural-log mel magnitudes.

    Frame t is centred on sample `t * hop + hop / 2`: both ends are reflect-padded by (n_fft - hop) / 2 and the
    transform is not centred, as in Kong et al. 2020 (HiFi-GAN, arXiv:2010.05646), so `frames = samples // hop`.

    Example:
        >>> import torch
        >>> MelSpectrogram(MelConfig())(torch.randn(2, 22050)).shape
        torch.Size([2, 80, 86])
    """

    def __init__(self, config: MelConfig | None = None) -> None:
        super().__init__()
        self.config = config or MelConfig()
        c = self.config
        filters = mel_filters(c.n_mels, sample_rate=c.sample_rate, n_fft=c.n_fft, f_min=c.f_min, f_max=c.f_max)
        self.register_buffer("window", torch.hann_window(c.window, device="cpu"), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        self.bins = int(filters.any(axis=0).nonzero()[0].max()) + 1  # no band reaches above

    def forward(self, samples: Tensor) -> Tensor:
        """Samples (batch, samples) in [-1, 1] at `sample_rate` → ln-mel (batch, n_mels, samples // hop).

        Raises:
            VcvaeError: fewer samples than one frame needs (`config.minimum_samples`).
        """
        c = self.config
        if samples.shape[-1] < c.minimum_samples:
            raise VcvaeError(
                f"{samples.shape[-1] / c.sample_rate:.4f} s of audio is too short for one mel frame; "
                f"give at least {c.minimum_samples / c.sample_rate:.4f} s."
            )
        pad = (c.n_fft - c.hop) // 2
        padded = F.pad(samples[:, None], (pad, pad), mode="reflect")[:, 0]
        spectrum = torch.stft(padded, c.n_fft, c.hop, c.window, self.window, center=False, return_complex=True)
        magnitude = spectrum[:, : self.bins].abs()
        return torch.log(torch.clamp(self.filters[:, : self.bins] @ magnitude, min=c.floor))


def level(mel: Tensor, mask: Tensor | None = None) -> Tensor:
    """The level of log-mels (batch, bands, frames): ln of the root of their mean energy, (batch, 1, 1).

    A gain of g adds ln g. `mask` (batch, frames, 1) weights the frames.
    """
    energy = torch.exp(2 * mel).sum(dim=1)
    weight = torch.ones_like(energy) if mask is None else mask[..., 0]
    return 0.5 * torch.log((energy * weight).sum(dim=1) / weight.sum(dim=1))[:, None, None]


def normalize_level(mel: Tensor, bands: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Log-mels (batch, n_mels, frames) → the same at level zero, and their level, (batch, 1, 1), in nepers.

    The level is that of the lowest `bands` bands, so that it does not depend on the recording's bandwidth.
    `mask` (batch, frames, 1) is 1 for the frames that count.

    Example:
        >>> mel, gain = normalize_level(torch.zeros(1, 80, 5), 60)
        >>> mel.shape, round(gain.item(), 3)
        (torch.Size([1, 80, 5]), 2.047)
    """
    gain = level(mel[:, :bands], mask)
    return mel - gain, gain


def standardize(mel: Tensor) -> Tensor:
    """Log-mels at level zero, of any shape → about zero mean and unit variance, as the networks take them."""
    return (mel - MEL_MEAN) / MEL_STD


def bandwidth(samples: np.ndarray, sample_rate: int) -> float:
    """The bandwidth (Hz) of a recording: the highest frequency at which its mean spectrum is above both floors.

    Only the louder half of the frames counts. MP3s and up-sampled files have less than half their sample rate.
    """
    power = _power_spectra(samples)
    energy = power.sum(axis=0)
    spectrum = 10 * np.log10(power[:, energy >= np.median(energy)] + 1e-12).mean(axis=1)
    used = np.flatnonzero(spectrum > max(spectrum.max() + RELATIVE_FLOOR, ABSOLUTE_FLOOR))
    return float((used.max(initial=0) + 1) * sample_rate / BANDWIDTH_WINDOW)


def _power_spectra(samples: np.ndarray) -> np.ndarray:
    """Samples (samples,) → power of the bins of Hann windows, (BANDWIDTH_WINDOW / 2 + 1, frames) float32."""
    n_fft, hop = BANDWIDTH_WINDOW, max(BANDWIDTH_WINDOW // 2, len(samples) // MAX_SPECTRA)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, n_fft // 2), n_fft)[::hop]
    power = np.empty((n_fft // 2 + 1, len(frames)), np.float32)
    for start in range(0, len(frames), 1024):  # so that a long recording takes little memory
        block = slice(start, start + 1024)
        power[:, block] = np.abs(np.fft.rfft(window * frames[block]).T) ** 2
    return power


def band_centres(config: MelConfig) -> Tensor:
    """Centre frequencies of the bands, (n_mels,) in Hz."""
    edges = mel_frequencies(config.n_mels + 2, f_min=config.f_min, f_max=config.f_max)
    return torch.tensor(edges[1:-1], dtype=torch.float32)


def valid_band_mask(bandwidth: Tensor, config: MelConfig) -> Tensor:
    """Bandwidths (batch,) in Hz → valid bands (batch, n_mels): 1 where the centre is within the bandwidth, else 0."""
    return (band_centres(config).to(bandwidth.device) <= bandwidth[:, None]).float()
