"""Synthesis without conversion: of a recording's mel, a mel in a file, or a decoded one, in pieces through a vocoder.

The difference of a copy to its recording is the vocoder's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vcvae.array_files import map_npy
from vcvae.convert import chunks
from vcvae.convert.encoder import padded_mel, recording_blocks
from vcvae.convert.level import limit
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.models.classic.autoencoder import DenoisingAutoEncoder
from vcvae.progress import Progress, no_progress, report_blocks
from vcvae.vocoder import Vocoder


def vocode(source: str | Path, vocoder: Vocoder) -> np.ndarray:
    """A recording, or a mel in a .npy file → samples (samples,) at the vocoder's rate, float32.

    A recording's copy is as long as the recording.

    Raises:
        VcvaeError: a file that cannot be used.
    """
    return np.concatenate(list(vocode_pieces(source, vocoder)))


def vocode_pieces(source: str | Path, vocoder: Vocoder, *, progress: Progress = no_progress) -> Iterator[np.ndarray]:
    """The samples of `vocode`, piece by piece, each of which `progress` gets."""
    config = vocoder.mel_config
    if Path(source).suffix == ".npy":
        yield from synthesize_pieces(vocoder, mel_file_pieces(source, config, progress=progress))
        return
    spectrogram = MelSpectrogram(config)

    def copy(samples: np.ndarray) -> np.ndarray:
        return limit(synthesize(vocoder, padded_mel(spectrogram, samples)[0])[: len(samples)], config.sample_rate)

    blocks = recording_blocks(source, config, progress=progress, description="vocoding")
    yield from chunks.process_pieces(blocks, copy, hop=config.hop)


def denoise_pieces(
    source: str | Path, denoiser: DenoisingAutoEncoder, vocoder: Vocoder, *, progress: Progress = no_progress
) -> Iterator[np.ndarray]:
    """The samples (samples,) of a recording without its noise, piece by piece, each of which `progress` gets.

    Raises:
        VcvaeError: a file that cannot be used.
    """
    config = vocoder.mel_config
    spectrogram = MelSpectrogram(config)

    def denoise(samples: np.ndarray) -> np.ndarray:
        clean = denoiser.denoise(padded_mel(spectrogram, samples)[0])
        return limit(synthesize(vocoder, clean)[: len(samples)], config.sample_rate)

    blocks = recording_blocks(source, config, progress=progress, description="denoising")
    yield from chunks.process_pieces(blocks, denoise, hop=config.hop)


def synthesize_pieces(vocoder: Vocoder, mels: Iterable[tuple[np.ndarray, bool]]) -> Iterator[np.ndarray]:
    """Ln-mels (n_mels, frames), in overlapping pieces as of `split_pieces`, and whether each is the last → samples."""
    config = vocoder.mel_config
    pieces = ((limit(synthesize(vocoder, torch.from_numpy(mel)), config.sample_rate), is_last) for mel, is_last in mels)
    yield from chunks.join_pieces(pieces, hop=config.hop)


def mel_file_pieces(
    path: str | Path, config: MelConfig, *, progress: Progress = no_progress
) -> Iterator[tuple[np.ndarray, bool]]:
    """The ln-mel of a .npy file, as `vcvae encode mel` writes it, in overlapping pieces (n_mels, frames) float32.

    Raises:
        VcvaeError: it cannot be read, or is no finite (n_mels, frames) array of numbers.
    """
    mel = map_npy(path)
    n_mels = config.n_mels
    if mel.ndim != 2 or mel.shape[0] != n_mels or not mel.shape[1] or mel.dtype.kind not in "fiu":
        raise VcvaeError(f"{path}: holds {mel.dtype} {mel.shape}; a mel is numbers, ({n_mels}, frames).")
    blocks = (mel[:, start : start + chunks.PIECE_FRAMES] for start in range(0, mel.shape[1], chunks.PIECE_FRAMES))
    blocks = report_blocks(blocks, config.frame_rate, mel.shape[1] / config.frame_rate, progress, "vocoding")
    for piece, is_last in chunks.split_pieces(blocks, chunks.PIECE_FRAMES, chunks.OVERLAP_FRAMES):
        if not np.isfinite(piece).all():
            raise VcvaeError(f"{path}: holds NaN or infinite values; a mel is the natural logarithm of magnitudes.")
        yield piece.astype(np.float32), is_last


@torch.inference_mode()
def synthesize(vocoder: Vocoder, mel: Tensor) -> np.ndarray:
    """Ln-mel (n_mels, frames) → samples (samples,), float32."""
    return vocoder(mel[None].to(vocoder.device))[0].float().cpu().numpy()
