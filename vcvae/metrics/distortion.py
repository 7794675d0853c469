"""How far one spectral envelope is from another, where the words are the same: mel-cepstral distortion."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vcvae.features.cepstrum import align, cepstrum


def mel_cepstral_distortion(mel: Tensor, reference: Tensor) -> float:
    """Mean distance in dB of two log-mels (n_mels, frames) that say the same, each at its own speed, loudness apart.

    Kubichek 1993 (doi:10.1109/PACRIM.1993.407206), for cepstra in the scale that synthesis filters have, on frames
    aligned in time and within 40 dB of their loudest.
    """
    scale = 10 * math.sqrt(2) / math.log(10) * math.sqrt(2 / mel.shape[-2])
    a, b = (scale * cepstrum(_loud(x))[1:].numpy() for x in (mel, reference))
    i, j = align(a, b)
    return float(np.linalg.norm(a[:, i] - b[:, j], axis=0).mean())


def _loud(mel: Tensor) -> Tensor:
    loudness = 0.5 * torch.exp(2 * mel).sum(dim=-2).log()
    return mel[:, loudness > loudness.max() - 4.6]
