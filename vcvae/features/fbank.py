"""The log filter bank of SpeechBrain (Ravanelli et al. 2021, arXiv:2106.04624), which its speaker networks take."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SAMPLE_RATE, WINDOW, HOP, BANDS = 16000, 400, 160, 80  # Hz; samples; samples; triangles on the mel scale
RANGE = 80.0  # dB below the loudest, below which values are clipped


def filterbank(samples: Tensor) -> Tensor:
    """Samples (batch, samples) at 16 kHz → dB (batch, 80, 1 + samples // 160); frame t is centred on sample 160 · t."""
    spectrum = torch.stft(
        samples,
        WINDOW,
        HOP,
        window=torch.hamming_window(WINDOW, device=samples.device),
        pad_mode="constant",
        return_complex=True,
    )
    bands = 10 * (_triangles().to(samples.device) @ spectrum.abs().square()).clamp(min=1e-10).log10()
    return torch.maximum(bands, bands.amax(dim=(1, 2), keepdim=True) - RANGE)


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # kept for whoever asks next, and may want a gradient
def _triangles() -> Tensor:
    """(80, 201): even on the mel scale; each falls as it rises, over the distance to the one below."""
    top = 2595 * torch.tensor(1 + SAMPLE_RATE / 2 / 700).log10().item()
    hertz = 700 * (10 ** (torch.linspace(0, top, BANDS + 2) / 2595) - 1)
    width, centre = hertz.diff()[:-1, None], hertz[1:-1, None]
    slope = (torch.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1) - centre) / width
    return torch.minimum(1 + slope, 1 - slope).clamp(min=0)
