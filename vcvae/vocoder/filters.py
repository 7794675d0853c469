"""The network of the source-filter vocoder: a mel → the filters of the three sources."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.features.mel_scale import mel_frequencies
from vcvae.features.stft import MAX_MEL_CORRECTION, minimum_phase, moving_average

MAX_LOG_GAIN = 8.0  # ln; gains are limited so that no mel causes an overflow
SMOOTHING_BAND = (1500.0, 4500.0)  # Hz; the pulses' gains are smoothed in full below, not at all above
CORRECTION_FRAMES = 5  # mel frames (58 ms) over which gain errors are averaged before they are corrected

# Log-gains of pulses, aspiration and noise, and the phase of the first two filters: (batch, …, bins) each.
Filters = tuple[Tensor, Tensor, Tensor, Tensor]


class ConvNeXtBlock(nn.Module):
    """x + γ · W₂ GELU(W₁ norm(depthwise convolution)), on (batch, frames, channels).

    Liu et al. 2022 (arXiv:2201.03545).
    """

    def __init__(self, channels: int, *, kernel: int, expansion: int, scale: float) -> None:
        super().__init__()
        # A 2-D convolution: on CPUs it is eight times as fast as the 1-D one.
        self.depthwise = nn.Conv2d(channels, channels, (kernel, 1), padding=(kernel // 2, 0), groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, expansion * channels)
        self.project = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x.transpose(1, 2).unsqueeze(3)).squeeze(3).transpose(1, 2)
        return x + self.scale * self.project(F.gelu(self.expand(self.norm(y))))


class Backbone(nn.Module):
    """(batch, frames, inputs) → (batch, frames, channels)."""

    def __init__(self, inputs: int, *, channels: int, blocks: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(inputs, channels, kernel, padding=kernel // 2)
        self.norm = nn.LayerNorm(channels)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, kernel=kernel, expansion=expansion, scale=1 / blocks) for _ in range(blocks)
        )
        self.last = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return self.last(x)


class FilterHead(nn.Module):
    """The backbone's features and the mel → the filters of the three sources.

    The gains are the mel, interpolated between the centres of its bands, plus the network's output; the phases are
    those of the minimum-phase filter plus the network's output. So even an untrained network synthesizes speech.
    """

    def __init__(self, mel: MelConfig, *, channels: int, n_fft: int, hop: int) -> None:
        """
        Args:
            mel: of the input.
            channels: of the features.
            n_fft: length of the filters' transform, in samples.
            hop: samples between two filters.
        """
        super().__init__()
        self.bins = n_fft // 2 + 1
        self.parts = mel.hop // hop  # filters per mel frame
        self.linear = nn.Linear(channels, self.parts * 4 * self.bins)
        bound = 0.01 * math.sqrt(3)  # a standard deviation of 0.01
        nn.init.uniform_(self.linear.weight, -bound, bound)
        nn.init.zeros_(self.linear.bias)
        edges = mel_frequencies(mel.n_mels + 2, f_min=mel.f_min, f_max=mel.f_max)
        frequencies = np.linspace(0, mel.sample_rate / 2, self.bins)
        band_to_bin = np.stack([np.interp(frequencies, edges[1:-1], row) for row in np.eye(mel.n_mels)])
        # The ln-mel of the sum of the three sources, each of unit power.
        bands = MelSpectrogram(mel).filters.sum(dim=1).numpy()
        power = torch.hann_window(mel.window, device="cpu").square().sum().item() * 3
        white_mel = np.log(bands.clip(min=1e-9) * math.sqrt(power))
        self.register_buffer("band_to_bin", torch.tensor(band_to_bin, dtype=torch.float32), persistent=False)
        self.register_buffer("white_mel", torch.tensor(white_mel, dtype=torch.float32), persistent=False)
        smoothing_weight = np.interp(frequencies, SMOOTHING_BAND, (1, 0))
        self.register_buffer("smoothing_weight", torch.tensor(smoothing_weight, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor, mel: Tensor, *, gain_smoothing: int = 1) -> Filters:
        """Features (batch, frames, channels), ln-mel (batch, n_mels, frames) → (batch, parts · frames, bins) each.

        With `gain_smoothing` > 1, the pulses' log-gains at low frequencies, and the direction of the phases that the
        network adds, are averaged over as many filters: fluctuations of single harmonics sound rough. At higher
        frequencies and in noise such detail belongs to the voice.
        """
        predicted = self.linear(features).reshape(len(mel), -1, 4, self.bins)
        mel_gain = self._to_bins(mel - self.white_mel[:, None])
        pulses, aspiration, noise = (mel_gain[:, :, None] + predicted[:, :, :3]).clamp(max=MAX_LOG_GAIN).unbind(2)
        phase = predicted[:, :, 3]
        if gain_smoothing > 1:
            mean_gain = moving_average(pulses.mT, gain_smoothing).mT
            mean_cosine = moving_average(phase.cos().mT, gain_smoothing).mT
            mean_sine = moving_average(phase.sin().mT, gain_smoothing).mT
            pulses = torch.lerp(pulses, mean_gain, self.smoothing_weight)
            phase = torch.atan2(mean_sine, mean_cosine)
        return pulses, aspiration, noise, minimum_phase(pulses) + phase

    def correct_gains(self, filters: Filters, mel_error: Tensor) -> Filters:
        """Filters whose log-gains are increased by the slow part of a ln-mel error (batch, n_mels, frames)."""
        limit = math.log(MAX_MEL_CORRECTION)
        correction = self._to_bins(moving_average(mel_error.clamp(-limit, limit), CORRECTION_FRAMES))
        pulses, aspiration, noise, phase = filters
        return (
            (pulses + correction).clamp(max=MAX_LOG_GAIN),
            (aspiration + correction).clamp(max=MAX_LOG_GAIN),
            (noise + correction).clamp(max=MAX_LOG_GAIN),
            phase,
        )

    def _to_bins(self, mel: Tensor) -> Tensor:
        """Mel (batch, n_mels, frames) → (batch, parts · frames, bins), interpolated between the bands' centres."""
        return F.interpolate(mel, scale_factor=self.parts, mode="linear").transpose(1, 2) @ self.band_to_bin
