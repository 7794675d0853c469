"""The log filter bank of SpeechBrain (Ravanelli et al. 2021, arXiv:2106.04624), the input of its speaker networks."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

FBANK_SAMPLE_RATE = 16000  # Hz
FBANK_WINDOW, FBANK_HOP = 400, 160  # samples
FBANK_BANDS = 80  # triangles on the mel scale
FBANK_RANGE = 80.0  # dB below the maximum, at which values are clipped


def filterbank(samples: Tensor) -> Tensor:
    """Samples (batch, samples) at 16 kHz → dB (batch, 80, 1 + samples // 160); frame t is centred on sample 160 · t."""
    spectrum = torch.stft(
        samples,
        FBANK_WINDOW,
        FBANK_HOP,
        window=torch.hamming_window(FBANK_WINDOW, device=samples.device),
        pad_mode="constant",
        return_complex=True,
    )
    bands = 10 * (_triangles().to(samples.device) @ spectrum.abs().square()).clamp(min=1e-10).log10()
    return torch.maximum(bands, bands.amax(dim=(1, 2), keepdim=True) - FBANK_RANGE)


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # the cached tensor must also work where gradients are needed
def _triangles() -> Tensor:
    """(80, 201): triangles evenly spaced on the mel scale, each symmetric with the width of its lower side."""
    top = 2595 * torch.tensor(1 + FBANK_SAMPLE_RATE / 2 / 700).log10().item()
    hertz = 700 * (10 ** (torch.linspace(0, top, FBANK_BANDS + 2) / 2595) - 1)
    width, centre = hertz.diff()[:-1, None], hertz[1:-1, None]
    slope = (torch.linspace(0, FBANK_SAMPLE_RATE / 2, FBANK_WINDOW // 2 + 1) - centre) / width
    return torch.minimum(1 + slope, 1 - slope).clamp(min=0)
