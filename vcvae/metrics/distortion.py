"""Mel-cepstral distortion: the distance of spectral envelopes of recordings with the same words."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vcvae.features.cepstrum import align, cepstrum


def mel_cepstral_distortion(mel: Tensor, reference: Tensor) -> float:
    """Mean distance in dB of two log-mels (n_mels, frames) with the same words, aligned in time, without the level.

    Kubichek 1993 (doi:10.1109/PACRIM.1993.407206), for cepstra in the scale of synthesis filters, on frames within
    40 dB of the loudest.
    """
    scale = 10 * math.sqrt(2) / math.log(10) * math.sqrt(2 / mel.shape[-2])
    a = scale * cepstrum(_loud_frames(mel))[1:].numpy()
    b = scale * cepstrum(_loud_frames(reference))[1:].numpy()
    i, j = align(a, b)
    return float(np.linalg.norm(a[:, i] - b[:, j], axis=0).mean())


def _loud_frames(mel: Tensor) -> Tensor:
    loudness = 0.5 * torch.exp(2 * mel).sum(dim=-2).log()
    return mel[:, loudness > loudness.max() - 4.6]
