"""Writing audio files, whole or in pieces: completely or not at all."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from vcvae.audio.opening import CHUNK
from vcvae.defaults import STDOUT
from vcvae.errors import VcvaeError, check_absent, completed, disk_errors, temporary_folder

OUTPUT_FORMATS = {".wav": "WAV", ".flac": "FLAC"}

_log = logging.getLogger("vcvae")


def check_output(path: str | Path, force: bool = False) -> None:
    """Check, before any work is done, that a path can be written.

    Raises:
        VcvaeError: the ending is unknown, the folder missing or read-only; or the file exists, without `force`; or
            standard output is a terminal or closed.
    """
    path = Path(path)
    if path == STDOUT:
        if sys.stdout is None:
            raise VcvaeError(f"{path}: is closed; give the path of a file.")
        if sys.stdout.isatty():
            raise VcvaeError(f"{path}: a terminal; send the audio to a program or a file: -o - > out.wav.")
        return
    if path.suffix.lower() not in OUTPUT_FORMATS:
        raise VcvaeError(f"{path}: cannot be written; end its name in {' or '.join(OUTPUT_FORMATS)}.")
    check_absent(path, force)


def write(path: str | Path, samples: np.ndarray, sample_rate: int, *, force: bool = False) -> None:
    """Write samples (samples,) in [-1, 1] as 16-bit WAV or FLAC, by the path's ending, completely or not at all.

    `STDOUT` is written to as WAV.

    Samples beyond full scale are limited, with a warning that gives the excess in dB.

    Raises:
        VcvaeError: as `check_output`; or the disk is full, or samples are missing, NaN or infinite.
    """
    write_pieces(path, [samples], sample_rate, force=force)


def write_pieces(path: str | Path, pieces: Iterable[np.ndarray], sample_rate: int, *, force: bool = False) -> None:
    """`write` for samples that come piece by piece, (samples,) each, in memory that does not grow with their number.

    The output is checked before the first piece is made.

    Raises:
        VcvaeError: as `write`.
    """
    with Writer(path, sample_rate, force=force) as writer:
        for samples in pieces:
            writer.append(samples)


class Writer:
    """`write` for pieces that are appended, in bounded memory.

    The pieces go to a temporary file; at the end of the block they become the file in one step. After an exception,
    nothing is left.

    Example:
        >>> from vcvae import audio
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with audio.Writer(f"{folder}/tone.wav", 22050) as writer:
        ...         writer.append(np.sin(np.arange(22050) / 8))
        ...     audio.read(f"{folder}/tone.wav", 22050).shape
        (22050,)
    """

    def __init__(self, path: str | Path, sample_rate: int, *, force: bool = False) -> None:
        self.path, self.sample_rate, self.force = Path(path), sample_rate, force

    def __enter__(self) -> Writer:
        check_output(self.path, self.force)
        with disk_errors(self.path):
            self._waiting = tempfile.TemporaryFile(dir=None if self.path == STDOUT else self.path.parent)
        return self

    def append(self, samples: np.ndarray) -> None:
        """Add samples, (samples,)."""
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1:
            raise ValueError(f"samples have the shape {samples.shape}; one channel, (samples,), is written")
        if not np.isfinite(samples).all():
            raise VcvaeError(f"{self.path}: not written, as it would hold NaN; check the model's weights.")
        with disk_errors(self.path):
            self._waiting.write(np.ascontiguousarray(samples).data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with disk_errors(self.path), self._waiting:
            if kind is None and self.path == STDOUT:
                with temporary_folder() as folder:
                    self._encode(folder / "output.wav", "WAV")
                    with open(folder / "output.wav", "rb") as file:
                        shutil.copyfileobj(file, sys.stdout.buffer)
                    sys.stdout.buffer.flush()
            elif kind is None:
                with completed(self.path) as part:
                    self._encode(part, OUTPUT_FORMATS[self.path.suffix.lower()])

    def _encode(self, part: Path, kind: str) -> None:
        peak, limited = 1.0, 0
        if self._waiting.tell() == 0:
            raise VcvaeError(f"{self.path}: not written, as there are no samples; give a longer source.")
        self._waiting.seek(0)
        with soundfile.SoundFile(str(part), "w", self.sample_rate, 1, "PCM_16", format=kind) as file:
            while values := self._waiting.read(4 * CHUNK):
                samples = np.frombuffer(values, np.float32)
                peak = max(peak, np.abs(samples).max())
                limited += np.count_nonzero(np.abs(samples) > 1)
                file.write(np.clip(np.rint(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16))
        if limited:
            over = f"its peak was {20 * np.log10(peak):.1f} dB over full scale"
            _log.warning(f"{self.path}: {over}, so {limited} samples were limited; lower the gain.")
