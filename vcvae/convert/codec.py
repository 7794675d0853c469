"""Speech stored as an auto-encoder's code: recording → mel → code → file, and back through the vocoder.

A file is a NumPy archive: the code as float16, or as 8-bit integers with a scale and a minimum for each of its
rows; the number of mel frames; and the fingerprint of the model, so that no other decodes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcvae.array_files import MAX_BYTES, read_npz
from vcvae.convert import chunks
from vcvae.convert.encoder import padded_mel, recording_blocks
from vcvae.defaults import CODE_BITS
from vcvae.errors import VcvaeError, check_absent, replacing
from vcvae.features.mel import MelSpectrogram
from vcvae.models.classic.autoencoder import AutoEncoder
from vcvae.models.hub import fingerprint
from vcvae.progress import Progress, no_progress, report_blocks

BITS = (8, 16)
FRAMES_PER_POSITION = 4
ARRAYS = {  # of a file, with the number of their dimensions and the kinds of their types
    "code": (2, "fu"),
    "step": (2, "f"),
    "least": (2, "f"),
    "frames": (0, "i"),
    "model": (0, "U"),
}


@dataclass(frozen=True)
class Code:
    """The code (latent, positions) of `frames` mel frames, float32, made by the model of this `fingerprint`."""

    values: NDArray[np.float32]
    frames: int
    fingerprint: str


@torch.inference_mode()
def encode(model: AutoEncoder, mel: Tensor) -> Code:
    """The code of an ln-mel (n_mels, frames): for a VAE, the posterior's mean."""
    return Code(_encode(model, mel), mel.shape[1], fingerprint(model))


@torch.inference_mode()
def encode_recording(model: AutoEncoder, path: str | Path, *, progress: Progress = no_progress) -> Code:
    """The code of a recording's mel, made piece by piece, each of which `progress` gets.

    Raises:
        VcvaeError: a file that cannot be used.
    """
    config = model.config.mel
    spectrogram = MelSpectrogram(config)
    samples = 0

    def count(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        nonlocal samples
        for block in blocks:
            samples += len(block)
            yield block

    blocks = recording_blocks(path, config, progress=progress, description="encoding")
    pieces = chunks.split_pieces(count(blocks), chunks.PIECE_FRAMES * config.hop, chunks.OVERLAP_FRAMES * config.hop)
    encoded = ((_encode(model, padded_mel(spectrogram, piece)[0]), is_last) for piece, is_last in pieces)
    # Memory is taken where values are written; to join the pieces of a day would take it twice.
    most = MAX_BYTES // (4 * model.config.latent)
    values, positions = np.empty((model.config.latent, most), np.float32), 0
    for piece in chunks.cut_pieces(encoded, *_piece_positions()):
        if positions + piece.shape[1] > most:
            hours = most * FRAMES_PER_POSITION / config.frame_rate / 3600
            raise VcvaeError(f"{path}: longer than the {hours:.1f} hours that one file of a code holds; cut it.")
        values[:, positions : positions + piece.shape[1]] = piece
        positions += piece.shape[1]
    return Code(values[:, :positions], -(-samples // config.hop), fingerprint(model))


def _encode(model: AutoEncoder, mel: Tensor) -> NDArray[np.float32]:
    return model.encode(mel[None]).mean[0].float().numpy()


def decode(model: AutoEncoder, code: Code) -> Tensor:
    """The ln-mel (n_mels, frames) of a code.

    Raises:
        VcvaeError: another model made the code, or it is not one of as many frames.
    """
    pieces = chunks.cut_pieces(decode_pieces(model, code), chunks.PIECE_FRAMES, chunks.OVERLAP_FRAMES)
    return torch.from_numpy(np.concatenate(list(pieces), axis=1))


@torch.inference_mode()
def decode_pieces(
    model: AutoEncoder, code: Code, *, progress: Progress = no_progress
) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """The ln-mel of a code in overlapping pieces (n_mels, frames), and whether each is the last.

    `progress` is called before each.

    Raises:
        VcvaeError: another model made the code.
    """
    if code.fingerprint != fingerprint(model):
        raise VcvaeError("the code was made by another model; give the one that made it with --model.")
    expected = (model.config.latent, -(-code.frames // FRAMES_PER_POSITION))
    if code.values.shape != expected:
        raise VcvaeError(f"the code is {code.values.shape} and should be {expected}; encode the recording again.")
    remaining = code.frames
    piece, overlap = _piece_positions()
    rate = model.config.mel.frame_rate
    blocks = (code.values[:, start : start + piece] for start in range(0, code.values.shape[1], piece))
    blocks = report_blocks(blocks, rate / FRAMES_PER_POSITION, code.frames / rate, progress, "decoding")
    for values, is_last in chunks.split_pieces(blocks, piece, overlap):
        frames = remaining if is_last else chunks.PIECE_FRAMES + chunks.OVERLAP_FRAMES
        shape = torch.Size([1, model.config.inputs, frames])
        yield model.decode(torch.from_numpy(values)[None], shape).mean[0].numpy(), is_last
        remaining -= chunks.PIECE_FRAMES


def _piece_positions() -> tuple[int, int]:
    """The values of a piece, and of the overlap of two."""
    return chunks.PIECE_FRAMES // FRAMES_PER_POSITION, chunks.OVERLAP_FRAMES // FRAMES_PER_POSITION


def bits_per_second(code: Code, bits: int, frame_rate: float) -> float:
    """The bit rate of a code whose values take `bits` bits each; `frame_rate` in mel frames per second."""
    return code.values.size * bits / (code.frames / frame_rate)


def check_output(path: str | Path, bits: int, force: bool = False) -> None:
    """Check, before any work is done, that a code of `bits` bits can be written.

    Raises:
        VcvaeError: a wrong name or number of bits, a file that exists, or one that cannot be written.
    """
    if bits not in BITS:
        raise VcvaeError(f"--bits {bits}: a value is stored in 8 or 16 bits.")
    if Path(path).suffix != ".npz":
        raise VcvaeError(f"{path}: a code is written as .npz; end the name so.")
    check_absent(path, force)


def write(path: str | Path, code: Code, *, bits: int = CODE_BITS, force: bool = False) -> None:
    """Write a code to a .npz file.

    Raises:
        VcvaeError: a wrong name or number of bits, a file that exists, or one that cannot be written.
    """
    check_output(path, bits, force)
    arrays = {"frames": np.int64(code.frames), "model": np.array(code.fingerprint)}
    if bits == 16:
        arrays["code"] = code.values.astype(np.float16)
    else:
        minimum = code.values.min(axis=1, keepdims=True)
        scale = np.maximum((code.values.max(axis=1, keepdims=True) - minimum) / 255, 1e-8)
        arrays["code"] = np.empty(code.values.shape, np.uint8)
        for row in range(len(minimum)):  # one at a time: those of a day take 500 MB
            arrays["code"][row] = np.round((code.values[row] - minimum[row]) / scale[row])
        arrays |= {"least": minimum.astype(np.float32), "step": scale.astype(np.float32)}
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def read(path: str | Path) -> Code:
    """The code in a file.

    Raises:
        VcvaeError: it cannot be read, or holds no code.
    """
    of = "a code that 'vcvae encode code' wrote"
    arrays = read_npz(path, ARRAYS, of=of)
    missing = [name for name in ("code", "frames", "model") if name not in arrays]
    if missing or ("step" in arrays) != ("least" in arrays):
        raise VcvaeError(f"{path}: not {of} ({', '.join(missing) or 'a scale'} is missing).")
    values = arrays["code"].astype(np.float32)
    if "step" in arrays:
        rows = (len(values), 1)
        if arrays["step"].shape != rows or arrays["least"].shape != rows:
            raise VcvaeError(f"{path}: not {of} (its scales are not one for each row).")
        values *= arrays["step"]
        values += arrays["least"]
    code = Code(values, int(arrays["frames"]), str(arrays["model"]))
    if code.frames < 1 or not np.isfinite(values).all():
        raise VcvaeError(f"{path}: not {of} (it holds {code.frames} frames, or values that are not finite).")
    return code
