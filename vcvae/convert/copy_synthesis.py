"""Copy synthesis: a mel, or a recording's mel, through a vocoder. The difference to the recording is the vocoder's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vcvae.array_files import map_npy
from vcvae.convert.encoder import recording_mel
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.vocoder import Vocoder


def read_mel(path: str | Path, config: MelConfig) -> Tensor:
    """The ln-mel (n_mels, frames) of a .npy file, as `vcvae encode` writes it.

    Raises:
        VcvaeError: it cannot be read, or is no finite (n_mels, frames) array of numbers.
    """
    mel = map_npy(path)
    if mel.ndim != 2 or mel.shape[0] != config.n_mels or not mel.shape[1] or mel.dtype.kind not in "fiu":
        raise VcvaeError(f"{path}: holds {mel.dtype} {mel.shape}; a mel is numbers, ({config.n_mels}, frames).")
    if not np.isfinite(mel).all():
        raise VcvaeError(f"{path}: holds NaN or infinite values; a mel is the natural logarithm of magnitudes.")
    return torch.from_numpy(mel.astype(np.float32))


def vocode(source: str | Path, vocoder: Vocoder) -> np.ndarray:
    """A recording, or a mel in a .npy file → samples (samples,) at the vocoder's rate, float32.

    A recording's copy is as long as the recording.

    Raises:
        VcvaeError: a file that cannot be used.
    """
    config = vocoder.mel_config
    if Path(source).suffix == ".npy":
        return synthesize(vocoder, read_mel(source, config))
    mel, samples = recording_mel(source, config)
    return synthesize(vocoder, mel)[:samples]


@torch.inference_mode()
def synthesize(vocoder: Vocoder, mel: Tensor) -> np.ndarray:
    """Ln-mel (n_mels, frames) → samples (samples,), float32."""
    device = next(vocoder.buffers()).device
    return vocoder(mel[None].to(device))[0].float().cpu().numpy()
