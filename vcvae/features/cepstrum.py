"""The smooth envelope of a mel, and the time that two of them share: mel-cepstra, and their alignment."""

from __future__ import annotations

from functools import lru_cache

import librosa
import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

CEPSTRA = 24


@lru_cache
@torch.inference_mode(False)  # whoever asks first: it is kept, and may be trained through later
def _basis(n_mels: int, order: int) -> Tensor:
    return torch.from_numpy(scipy.fft.dct(np.eye(n_mels), norm="ortho", axis=0)[: order + 1]).float()


def cepstrum(mel: Tensor, order: int = CEPSTRA) -> Tensor:
    """Log-mels (…, n_mels, frames) → their mel-cepstra, the orthonormal cosine transform, (…, order + 1, frames).

    The first is the level; the others are the envelope, ever finer, and, up to about 24, hardly the f0.
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
