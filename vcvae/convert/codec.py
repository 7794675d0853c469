"""Speech stored as an auto-encoder's code: recording → mel → code → file, and back through the vocoder.

A file is a NumPy archive: the code as float16, or as 8-bit integers with a scale and a minimum for each of its
rows; the number of mel frames; and the fingerprint of the model, so that no other decodes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcvae.defaults import CODE_BITS
from vcvae.errors import VcvaeError, check_absent, replacing
from vcvae.models.classic.autoencoder import AutoEncoder
from vcvae.models.hub import fingerprint

BITS = (8, 16)


@dataclass(frozen=True)
class Code:
    """The code (latent, places) of `frames` mel frames, float32, made by the model of this `fingerprint`."""

    values: NDArray[np.float32]
    frames: int
    fingerprint: str


@torch.inference_mode()
def encode(model: AutoEncoder, mel: Tensor) -> Code:
    """The code of an ln-mel (n_mels, frames): for a VAE, the posterior's mean."""
    return Code(model.encode(mel[None]).mean[0].float().numpy(), mel.shape[1], fingerprint(model))


@torch.inference_mode()
def decode(model: AutoEncoder, code: Code) -> Tensor:
    """The ln-mel (n_mels, frames) of a code.

    Raises:
        VcvaeError: another model made the code.
    """
    if code.fingerprint != fingerprint(model):
        raise VcvaeError("the code was made by another model; give the one that made it with --model.")
    shape = torch.Size([1, model.config.inputs, code.frames])
    return model.decode(torch.from_numpy(code.values)[None], shape).mean[0]


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
        arrays["code"] = np.round((code.values - minimum) / scale).astype(np.uint8)
        arrays |= {"least": minimum.astype(np.float32), "step": scale.astype(np.float32)}
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def read(path: str | Path) -> Code:
    """The code in a file.

    Raises:
        VcvaeError: it cannot be read, or holds no code.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values = arrays["code"].astype(np.float32)
            if "step" in arrays:
                values = values * arrays["step"] + arrays["least"]
            code = Code(values, int(arrays["frames"]), str(arrays["model"]))
    except OSError as error:
        raise VcvaeError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except Exception:  # of the archive, or of a missing array
        raise VcvaeError(f"{path}: not a code that 'vcvae encode code' wrote.") from None
    if values.ndim != 2 or code.frames < 1 or not np.isfinite(values).all():
        raise VcvaeError(f"{path}: not a code that 'vcvae encode code' wrote.")
    return code
