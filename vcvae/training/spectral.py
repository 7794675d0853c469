"""Multi-resolution spectral distance of two waveforms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcvae.features.mel_scale import mel_filters, mel_frequencies

RESOLUTIONS = ((2048, 128), (1024, 80), (512, 48), (256, 24))  # window in samples, mel bands up to half the rate
SPECTRAL_FLOOR = 1e-5  # smallest magnitude, as in the mel


class MultiResolutionSpectrum(nn.Module):
    """Log spectra at several window lengths, and their L1 distance.

    Both mel spectra, as in HiFi-GAN (Kong et al. 2020, arXiv:2010.05646, eq. 3), and linear spectra, which resolve
    harmonics (Yamamoto et al. 2020, Parallel WaveGAN, arXiv:1910.11480, eq. 6).
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.nyquist = sample_rate / 2
        for window, bands in RESOLUTIONS:
            filters = mel_filters(bands, sample_rate=sample_rate, n_fft=window, f_min=0, f_max=self.nyquist)
            self.register_buffer(f"window{window}", torch.hann_window(window), persistent=False)
            self.register_buffer(f"filters{window}", torch.from_numpy(filters), persistent=False)

    def forward(self, samples: Tensor) -> list[Tensor]:
        """Samples (batch, samples) → log spectra (batch, bands or bins, frames): mel and linear alternately."""
        spectra = []
        for length, _ in RESOLUTIONS:
            window, filters = getattr(self, f"window{length}"), getattr(self, f"filters{length}")
            spectrum = torch.stft(samples, length, length // 4, window=window, return_complex=True)
            magnitude = torch.view_as_real(spectrum).square().sum(-1).clamp(min=SPECTRAL_FLOOR**2).sqrt()
            spectra += [torch.log((filters @ magnitude).clamp(min=SPECTRAL_FLOOR)), magnitude.log()]
        return spectra

    def distance(self, a: list[Tensor], b: list[Tensor], bandwidth: Tensor) -> Tensor:
        """Mean absolute difference, natural-log units, below each item's bandwidth (batch,) in Hz."""
        terms = []
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            valid = (self._frequencies(x.shape[1], mel=i % 2 == 0, like=x) <= bandwidth[:, None]).float()
            terms.append(((x - y).abs().mean(dim=2) * valid).sum() / valid.sum())
        return torch.stack(terms).mean()

    def _frequencies(self, count: int, *, mel: bool, like: Tensor) -> Tensor:
        if mel:
            edges = mel_frequencies(count + 2, f_min=0, f_max=self.nyquist)
            return torch.tensor(edges[1:-1], dtype=like.dtype, device=like.device)
        return torch.linspace(0, self.nyquist, count, dtype=like.dtype, device=like.device)
