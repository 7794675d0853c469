"""Reading, checking, resampling, trimming and writing audio files; no other module reads or writes them for users.

Audio is mono float32 in [-1, 1], of shape (samples,). A file that cannot be used is a `VcvaeError`; no partly written
file is left behind.
"""

from __future__ import annotations

import atexit
import functools
import logging
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike

from vcvae.arrays import HIGHEST_RATE, LOWEST_RATE, as_samples, checked_rate
from vcvae.defaults import STDIN, STDOUT
from vcvae.errors import VcvaeError, check_absent, check_file, completed, disk_errors

# fmt: off
AUDIO_ENDINGS = (  # what libsndfile reads; not .mat and .htk, which mostly hold other data
    ".8svx", ".afc", ".aif", ".aifc", ".aiff", ".au", ".avr", ".bwf", ".caf", ".flac", ".iff", ".ircam", ".mp1", ".mp2",
    ".mp3", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".paf", ".pvf", ".rf64", ".sds", ".sf", ".snd", ".sph", ".svx",
    ".voc", ".w64", ".wav", ".wave", ".wve",
)
OTHER_ENDINGS = (  # what phones, browsers and players write, and libsndfile does not read
    ".3gp", ".3gpp", ".aac", ".ac3", ".amr", ".ape", ".awb", ".dsf", ".dts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv",
    ".mov", ".mp4", ".mpc", ".mpeg", ".ra", ".spx", ".tta", ".weba", ".webm", ".wma", ".wv",
)
# fmt: on
OUTPUT_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
SILENCE = -80.0  # dB of full scale; a file with a lower peak is silent
TRIM = 40.0  # dB below the loudest 10 ms; quieter audio at either end is trimmed, except for...
MARGIN = 0.05  # ...these seconds, which keep soft consonants
FULL_SCALE = 0.999  # from here on, a sample may have been clipped
CHUNK = 2**18  # values that are decoded or written at a time

_GIT_LFS = b"version https://git-lfs.github.com/spec/"
_UNKNOWN = 2**63 - 1  # libsndfile's frame count of a FLAC stream of unspecified length
_STREAMED = 0x7FFFF000  # bytes; larger sizes in a header mark a stream of unknown length
_CUT_SHORT = re.compile(  # messages of libsndfile's log: for WAV, AU and W64; AIFF; RF64; Vorbis and Opus
    r" : (\d+) \(should be|not equal to frame count|does not match value|lacks an end-of-|without an End-Of-"
)
_log = logging.getLogger("vcvae")
_warn_once = functools.cache(_log.warning)


def read(
    path: str | Path,
    sample_rate: int,
    *,
    trim: bool = False,
    min_samples: int = 1,
    max_seconds: float = math.inf,
    max_clipped: float = 1.0,
) -> np.ndarray:
    """The audio of a file, (samples,) float32, mixed down to mono and resampled to `sample_rate` Hz.

    Any format and width of libsndfile. A floating-point file that exceeds 1 is scaled down; of a truncated file, the
    rest is read; a DC offset is kept. Mixing, scaling and truncation are logged as warnings on "vcvae", once per file.

    Args:
        trim: remove audio `TRIM` dB below the loudest 10 ms at either end, except for `MARGIN` seconds.
        min_samples: smallest length, at `sample_rate`.
        max_seconds: what follows after these is not read.
        max_clipped: largest share of samples at full scale.

    Raises:
        VcvaeError: a file that is missing, unreadable, empty, no audio, damaged, silent, clipped, too short or NaN.
    """
    chunks, seconds = [], 0.0
    for chunk in _decode(path, sample_rate, max_clipped):
        chunks.append(chunk)
        seconds += len(chunk) / sample_rate
        if seconds > max_seconds:
            _warn_once(f"{path}: the first {max_seconds / 60:.3g} minutes are used.")
            break
    samples = np.concatenate(chunks)[: round(min(max_seconds, seconds) * sample_rate)]
    if trim:
        samples = _trimmed(samples, sample_rate)
    if len(samples) < min_samples:
        length = f"{len(samples) / sample_rate:.4f} s" + (" without silence" if trim else "")
        raise VcvaeError(f"{path}: {length} is too short; give at least {min_samples / sample_rate:.4f} s.")
    return samples


def from_array(samples: ArrayLike, rate: float, sample_rate: int, *, trim: bool = False) -> np.ndarray:
    """Samples (samples,) at `rate` Hz, checked and trimmed as a file is → (samples,) float32 at `sample_rate` Hz.

    `vcvae.arrays.as_samples` states what an array may be.

    Raises:
        VcvaeError: an array or a rate that cannot be audio, or silence.
    """
    rate = checked_rate(rate)
    samples = as_samples(samples)
    if np.ptp(samples) / 2 < 10 ** (SILENCE / 20):
        raise VcvaeError(f"an array of audio is silent (below {SILENCE:.0f} dB); give one with a voice.")
    samples = soxr.resample(samples, rate, sample_rate, quality="VHQ")
    return _trimmed(samples, sample_rate) if trim else samples


def blocks(path: str | Path, sample_rate: int, seconds: float) -> Iterator[np.ndarray]:
    """The samples that `read` gives, in blocks of `seconds` (the last may be shorter) and in bounded memory.

    Raises:
        VcvaeError: as `read`, at the first block; silence and damage, when they are reached.
    """
    size = max(1, round(seconds * sample_rate))
    waiting = np.empty(0, np.float32)
    for samples in _decode(path, sample_rate):
        waiting = np.concatenate([waiting, samples])
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if len(waiting):
        yield waiting


def find(folder: str | Path) -> list[Path]:
    """The audio files in a folder and below it, sorted; links are followed, hidden files left out.

    Those whose endings are `AUDIO_ENDINGS` or `OTHER_ENDINGS`: formats that cannot be read are among them, so that
    reading them reports why.

    Raises:
        VcvaeError: it is not a folder, a folder in it cannot be read, or there is no audio file in it.
    """

    def refuse(error: OSError) -> None:
        raise VcvaeError(f"{error.filename}: cannot be read ({error.strerror}); give a folder with audio files.")

    files, visited = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(parent)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        files += [path for path in paths if path.suffix.lower() in AUDIO_ENDINGS + OTHER_ENDINGS]
    files.sort()
    if not files:
        raise VcvaeError(f"{folder}: no folder with audio files, such as .wav, .flac, .mp3 or .ogg.")
    return files


def find_recordings(path: str | Path) -> list[Path]:
    """The audio files of a folder, as by `find`; or the one file that is named.

    Raises:
        VcvaeError: a folder that cannot be read, or without audio files.
    """
    path = Path(path)
    with disk_errors(path, "read"):
        return find(path) if path.is_dir() else [path]


def find_readable(path: str | Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The audio files of a folder that can be opened, and the others, each with the reason; or the one file named.

    Raises:
        VcvaeError: as `find_recordings`; or the file, or none of the folder's files, can be opened.
    """
    files = find_recordings(path)
    if files == [Path(path)]:
        _open(path).close()
        return files, []
    readable, left_out = [], []
    for file in files:
        try:
            _open(file).close()
            readable.append(file)
        except VcvaeError as error:
            left_out.append((file, str(error).removeprefix(f"{file}: ")))
    if not readable:
        raise VcvaeError(
            f"{path}: none of its {len(files)} audio files can be read; {left_out[0][0]}: {left_out[0][1]}"
        )
    return readable, left_out


def check_output(path: str | Path, force: bool = False) -> None:
    """Check, before any work is done, that a path can be written.

    Raises:
        VcvaeError: the ending is unknown, the folder missing or read-only; or the file exists, without `force`.
    """
    path = Path(path)
    if path == STDOUT:
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
    with Writer(path, sample_rate, force=force) as writer:
        writer.append(samples)


class Writer:
    """`write` for audio in pieces, in bounded memory.

    The pieces go to a temporary file; at the end of the block they become the file in one step. After an exception,
    nothing is left.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Writer(f"{folder}/tone.wav", 22050) as writer:
        ...         writer.append(np.sin(np.arange(22050) / 8))
        ...     read(f"{folder}/tone.wav", 22050).shape
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
            self._waiting.write(samples.tobytes())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with disk_errors(self.path), self._waiting:
            if kind is None and self.path == STDOUT:
                with tempfile.NamedTemporaryFile(suffix=".wav") as part:
                    self._encode(Path(part.name), "WAV")
                    shutil.copyfileobj(part, sys.stdout.buffer)
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


class _Stream(soundfile.SoundFile):
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

    def chunks(self) -> Iterator[np.ndarray]:
        """(frames, channels) float32, until the end."""
        try:
            while len(chunk := self.read(CHUNK // self.channels, dtype="float32", always_2d=True)):
                yield chunk
        except soundfile.SoundFileError as error:
            fault = f"damaged or cut short ({error.error_string.rstrip('.')})"
            raise VcvaeError(f"{self.path}: {fault}; copy or download it again.") from None


def _open(path: str | Path) -> _Stream:
    file = _copy_of_input(sys.stdin) if Path(path) == STDIN else path
    if is_pointer(file):
        raise VcvaeError(f"{path}: a Git LFS pointer, not the audio itself; fetch that with 'git lfs pull'.")
    try:
        stream = _Stream(file, path)
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


@functools.cache
def _copy_of_input(stream: TextIO) -> Path:
    """The path of a temporary file with all that standard input holds: audio is read more than once.

    Raises:
        VcvaeError: it is a terminal or closed, or it holds nothing.
    """
    if stream is None or stream.isatty():
        raise VcvaeError(f"{STDIN}: a terminal; send audio to it: vcvae ... - < file.wav.")
    with disk_errors(STDIN, "read"):
        copy = tempfile.NamedTemporaryFile(prefix="vcvae-")  # noqa: SIM115  it lives as long as the process
        atexit.register(copy.close)
        shutil.copyfileobj(stream.buffer, copy)
        copy.flush()
    if copy.tell() == 0:
        raise VcvaeError(f"{STDIN}: holds nothing; send audio to it: vcvae ... - < file.wav.")
    return Path(copy.name)


def is_pointer(path: str | Path) -> bool:
    """Whether a file is a Git LFS pointer, in the place of one that was not fetched.

    Raises:
        VcvaeError: it cannot be read, or is no file.
    """
    check_file(path, advice="give the path of an audio file")
    with disk_errors(path, "read"), open(path, "rb") as file:
        return file.read(len(_GIT_LFS)) == _GIT_LFS


def _decode(path: str | Path, sample_rate: int, max_clipped: float = 1.0) -> Iterator[np.ndarray]:
    """Chunks (samples,) of the file, checked, mono and at `sample_rate`."""
    gain = _gain(path)
    frames, clipped, lowest, highest = 0, 0, np.inf, -np.inf
    with _open(path) as file:
        resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, quality="VHQ")
        for chunk in file.chunks():
            chunk *= gain
            samples = chunk.mean(axis=1)
            frames += len(samples)
            clipped += np.count_nonzero((np.abs(chunk) >= FULL_SCALE).any(axis=1))
            lowest, highest = min(lowest, samples.min()), max(highest, samples.max())
            yield resampler.resample_chunk(samples)
        if frames == 0:
            raise VcvaeError(f"{path}: holds no samples; copy or record it again.")
        channels = f" when its {file.channels} channels are mixed" if file.channels > 1 else ""
        if (highest - lowest) / 2 < 10 ** (SILENCE / 20):
            raise VcvaeError(f"{path}: silent{channels} (below {SILENCE:.0f} dB); give one with a voice.")
        if clipped > max_clipped * frames:
            raise VcvaeError(f"{path}: clipped, as {clipped / frames:.1%} of it is at full scale; record it lower.")
        if channels:
            _warn_once(f"{path}: its {file.channels} channels are mixed down to one.")
        cut_short = _CUT_SHORT.search(file.extra_info)
        if frames < file.frames != _UNKNOWN or (cut_short and int(cut_short[1] or 0) < _STREAMED):
            _warn_once(f"{path}: damaged or cut short; {frames / file.samplerate:.2f} s of it can be read.")
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _gain(path: str | Path) -> np.float32:
    """The factor that scales the peak of a floating-point file down to 1; other formats cannot exceed it by much."""
    peak = np.float32(1)
    with _open(path) as file:
        for chunk in file.chunks() if file.subtype in ("FLOAT", "DOUBLE") else ():
            if not np.isfinite(chunk).all():
                raise VcvaeError(f"{path}: holds NaN or infinite samples; export it again.")
            peak = max(peak, np.abs(chunk).max())
    if peak > 1:
        _warn_once(f"{path}: scaled down by {20 * np.log10(peak):.1f} dB, as its samples exceed full scale.")
    return 1 / peak


def _trimmed(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    frame, margin = sample_rate // 100, round(MARGIN * sample_rate)
    frames = np.pad(samples, (0, -len(samples) % frame), mode="edge").reshape(-1, frame)
    levels = frames.std(axis=1)  # about the mean, so that a DC offset does not count
    loud = np.flatnonzero(levels >= levels.max() * 10 ** (-TRIM / 20))
    return samples[max(0, loud[0] * frame - margin) : (loud[-1] + 1) * frame + margin]
