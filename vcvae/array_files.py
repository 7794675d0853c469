"""NumPy files: the header is read first, and the array only where type, shape and size can be. Nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vcvae.errors import VcvaeError, check_file, reason, replacing

MAX_BYTES = 2**29  # of an array: a float32 mel of five hours


def map_npy(path: str | Path) -> np.ndarray:
    """The array in a .npy file, mapped: its values are read when they are used.

    Raises:
        VcvaeError: it is no such file, or too large.
    """
    check_file(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("it is an archive of arrays")
    except Exception as error:  # bytes that are something else can fail in any way
        raise VcvaeError(f"{path}: cannot be read as .npy ({reason(error)}).") from None
    if array.nbytes > MAX_BYTES:
        raise VcvaeError(
            f"{path}: an array of {array.nbytes / 2**20:,.0f} MiB, more than the {MAX_BYTES / 2**20:.0f} MiB that are "
            "read at once; split it."
        )
    return array


def write_npy(path: str | Path, pieces: Iterable[np.ndarray]) -> tuple[int, ...]:
    """Write pieces (values, frames), or a single array of another rank, float32, as one array → its shape.

    Memory does not grow with the number of frames: in Fortran order a frame's values lie together, and frames can be
    appended.

    Raises:
        VcvaeError: it cannot be written; then nothing is left of it.
    """
    with replacing(path) as file:
        shape: tuple[int, ...] = ()
        for piece in pieces:
            if not shape:
                _write_header(file, piece.shape)
                shape = (*piece.shape[:-1], 0)
            file.write(piece.astype("<f4").tobytes(order="F"))
            shape = (*shape[:-1], shape[-1] + piece.shape[-1])
        file.seek(0)
        _write_header(file, shape)  # NumPy leaves room for any number of frames
    return shape


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": True, "shape": shape})


def read_npz(path: str | Path, kinds: dict[str, tuple[int, str]], *, of: str) -> dict[str, np.ndarray]:
    """Those arrays of a .npz file that `kinds` names and that it holds.

    Args:
        kinds: of each array the number of dimensions, and the kinds of its type, such as "iu" for integers.
        of: what the file should be, for the message.

    Raises:
        VcvaeError: it is no archive, or an array in it is of another kind, or too large.
    """
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            return {
                name: _read_member(archive, f"{name}.npy", *kind)
                for name, kind in kinds.items()
                if f"{name}.npy" in names
            }
    except Exception as error:  # bytes that are something else can fail in any way
        raise VcvaeError(f"{path}: not {of} ({reason(error)}).") from None


def _read_member(archive: zipfile.ZipFile, name: str, dimensions: int, kinds: str) -> np.ndarray:
    entry = archive.getinfo(name)
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read_header[version](member)
        size = math.prod(shape) * dtype.itemsize
        if len(shape) != dimensions or dtype.kind not in kinds or min(shape, default=0) < 0:
            raise ValueError(f"'{name}' holds {dtype} {shape}")
        if size > MAX_BYTES or size != entry.file_size - member.tell():
            raise ValueError(f"'{name}' has {entry.file_size:,} bytes, and its header says {size:,}")
        return np.frombuffer(member.read(size), dtype).reshape(shape, order="F" if is_fortran else "C")
