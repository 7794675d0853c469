"""Mel-cepstra, which describe the smooth spectral envelope, and their alignment in time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

CEPSTRUM_ORDER = 24  # coefficients after the zeroth: they hold the envelope and hardly any harmonics
MAX_ALIGNED_SECONDS = 60  # of recordings that are aligned: the table of the distances of their frames takes 500 MB


@lru_cache
@torch.inference_mode(False)  # the cached tensor must also work where gradients are needed
def _basis(n_mels: int, order: int) -> Tensor:
    return torchaudio.functional.create_dct(order + 1, n_mels, norm="ortho").mT


def cepstrum(mel: Tensor, order: int = CEPSTRUM_ORDER) -> Tensor:
    """Log-mels (…, n_mels, frames) → mel-cepstra, their orthonormal cosine transform, (…, order + 1, frames).

    Coefficient 0 is the level; the others describe the envelope in increasing detail.
    """
    return _basis(mel.shape[-2], order).to(mel) @ mel


def from_cepstrum(cepstra: Tensor, n_mels: int) -> Tensor:
    """Mel-cepstra (…, order + 1, frames) → smooth log-mels (…, n_mels, frames)."""
    return _basis(n_mels, cepstra.shape[-2] - 1).to(cepstra).mT @ cepstra


def align(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Align the frames of `a` and `b`, (features, frames) each: two index arrays of one length, both non-decreasing.

    Dynamic time warping by Euclidean distance (Sakoe & Chiba 1978, doi:10.1109/TASSP.1978.1163055).
    """
    import librosa  # a second and a half, which conversions need not wait for

    path = librosa.sequence.dtw(a, b)[1][::-1].copy()
    return path[:, 0], path[:, 1]
