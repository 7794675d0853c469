"""How far one spectral envelope is from another, where the words are the same: mel-cepstral distortion."""

from __future__ import annotations

import math
from functools import lru_cache

import librosa
import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

CEPSTRA = 24


@lru_cache
def _basis(n_mels: int, order: int) -> Tensor:
    return torch.from_numpy(scipy.fft.dct(np.eye(n_mels), norm="ortho", axis=0)[: order + 1]).float()


def cepstrum(mel: Tensor, order: int = CEPSTRA) -> Tensor:
    """Log-mels (…, n_mels, frames) → their mel-cepstra, the orthonormal cosine transform, (…, order + 1, frames).

    The first is the level; the others are the envelope, ever finer, and, up to about 24, hardly the pitch.
    """
    return _basis(mel.shape[-2], order).to(mel) @ mel


def from_cepstrum(cepstra: Tensor, n_mels: int) -> Tensor:
    """Cepstra (…, order + 1, frames) → the smooth log-mels that they describe, (…, n_mels, frames)."""
    return _basis(n_mels, cepstra.shape[-2] - 1).to(cepstra).mT @ cepstra


def align(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Frames of a (features, frames) and of b that belong together: two index arrays, ever onward in time.

    Dynamic time warping by Euclidean distance (Sakoe & Chiba 1978, doi:10.1109/TASSP.1978.1163055).
    """
    path = librosa.sequence.dtw(a, b)[1][::-1].copy()
    return path[:, 0], path[:, 1]


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
