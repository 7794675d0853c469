"""Opening audio files: what is one, and its samples from start to end, as they are in it."""

from __future__ import annotations

import atexit
import functools
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import soundfile

from vcvae.arrays import HIGHEST_RATE, LOWEST_RATE
from vcvae.defaults import STDIN
from vcvae.errors import VcvaeError, check_file, disk_errors, temporary_folder

MAX_INPUT_BYTES, INPUT_BLOCK = 2**31, 2**24  # of standard input
CHUNK = 2**18  # values that are decoded or written at a time

_GIT_LFS = b"version https://git-lfs.github.com/spec/"


class AudioFile(soundfile.SoundFile):
    """A file that is read sequentially.

    After each block, soundfile seeks to the current position, unless the file is not seekable. In an MP3 this distorts
    the samples at each boundary; in a FLAC of unknown length it fails.
    """

    def __init__(self, file: str | Path, path: str | Path) -> None:
        """`path` is the name of `file` in messages."""
        super().__init__(str(file))
        self.path = path

    def seekable(self) -> bool:
        return False

    def chunks(self, max_seconds: float = math.inf) -> Iterator[np.ndarray]:
        """(frames, channels) float32, until the end, or until there are `max_seconds`."""
        size, left = CHUNK // self.channels, max_seconds * self.samplerate
        try:
            while left > 0 and len(chunk := self.read(math.ceil(min(size, left)), dtype="float32", always_2d=True)):
                yield chunk
                left -= len(chunk)
        except soundfile.SoundFileError as error:
            fault = f"damaged or cut short ({error.error_string.rstrip('.')})"
            raise VcvaeError(f"{self.path}: {fault}; copy or download it again.") from None


def open_audio(path: str | Path) -> AudioFile:
    """The file, or standard input, before its first sample.

    Raises:
        VcvaeError: it cannot be read, is no audio of a known format, or has a sampling rate that speech has not.
    """
    file = _copy_of_input(sys.stdin) if Path(path) == STDIN else path
    if is_pointer(file):
        raise VcvaeError(f"{path}: a Git LFS pointer, not the audio itself; fetch that with 'git lfs pull'.")
    try:
        stream = AudioFile(file, path)
    except UnicodeError:
        raise VcvaeError(f"{path}: its name is not valid text in this system's encoding; rename it.") from None
    except (soundfile.SoundFileError, TypeError):
        stream = None
    if stream is None or stream.format == "RAW":  # RAW: no header; the format is guessed from the name
        raise VcvaeError(f"{path}: not audio of a known format; convert it to WAV (ffmpeg -i FILE file.wav).")
    if not LOWEST_RATE <= stream.samplerate <= HIGHEST_RATE:
        rate = f"{stream.samplerate} Hz, not between {LOWEST_RATE} and {HIGHEST_RATE}"
        raise VcvaeError(f"{path}: its sampling rate is {rate}; export it again.")
    return stream


def check_input() -> None:
    """Check, before any work is done, that audio can come from standard input.

    Raises:
        VcvaeError: it is a terminal or closed.
    """
    if sys.stdin is None or sys.stdin.isatty():
        fault = "is closed" if sys.stdin is None else "a terminal"
        raise VcvaeError(f"{STDIN}: {fault}; send audio to it: vcvae ... - < file.wav.")


@functools.cache
def _copy_of_input(stream: TextIO) -> Path:
    """The path of a temporary file with all that standard input holds: audio is read more than once.

    Raises:
        VcvaeError: it is a terminal or closed, holds nothing, or more than `MAX_INPUT_BYTES`.
    """
    check_input()
    with disk_errors(STDIN, "read"):
        folder = ExitStack()  # it lives as long as the process
        atexit.register(folder.close)
        copy = folder.enter_context(temporary_folder()) / "input"
        with open(copy, "wb") as file:
            while block := stream.buffer.read(INPUT_BLOCK):
                if file.tell() >= MAX_INPUT_BYTES:
                    raise VcvaeError(
                        f"{STDIN}: holds more than {MAX_INPUT_BYTES / 2**30:g} GiB; save it, and give the file's path."
                    )
                file.write(block)
                if file.tell() == INPUT_BLOCK and not _begins_as_audio(copy, file):
                    break  # as `open_audio` says
    if copy.stat().st_size == 0:
        raise VcvaeError(f"{STDIN}: holds nothing; send audio to it: vcvae ... - < file.wav.")
    return copy


def _begins_as_audio(path: Path, file: BinaryIO) -> bool:
    """Whether what has been written to a file so far can be opened."""
    file.flush()
    try:
        AudioFile(path, path).close()
    except (soundfile.SoundFileError, TypeError):
        return False
    return True


def is_pointer(path: str | Path) -> bool:
    """Whether a file is a Git LFS pointer, in the place of one that was not fetched.

    Raises:
        VcvaeError: it cannot be read, or is no file.
    """
    check_file(path, advice="give the path of an audio file")
    with disk_errors(path, "read"), open(path, "rb") as file:
        return file.read(len(_GIT_LFS)) == _GIT_LFS
