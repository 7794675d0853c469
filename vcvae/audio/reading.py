"""Reading audio: the samples of a file or an array, checked, mono and resampled, whole or in blocks."""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import ArrayLike

from vcvae.arrays import as_samples, checked_rate
from vcvae.audio.opening import open_audio
from vcvae.errors import VcvaeError
from vcvae.progress import Progress, no_progress, report_blocks

SILENCE = -80.0  # dB of full scale; a file with a lower peak is silent
TRIM = 40.0  # dB below the loudest 10 ms; quieter audio at either end is trimmed, except for...
MARGIN = 0.05  # ...these seconds, which keep soft consonants
FULL_SCALE = 0.999  # from here on, a sample may have been clipped

_UNKNOWN = 2**63 - 1  # libsndfile's frame count of a FLAC stream of unspecified length
_STREAMED = 0x7FFFF000  # bytes; larger sizes in a header mark a stream of unknown length
_CUT_SHORT = re.compile(  # messages of libsndfile's log: for WAV, AU and W64; AIFF; RF64; Vorbis and Opus
    r" : (\d+) \(should be|not equal to frame count|does not match value|lacks an end-of-|without an End-Of-"
)
_warn_once = functools.cache(logging.getLogger("vcvae").warning)


def read(
    path: str | Path,
    sample_rate: int,
    *,
    trim: bool = False,
    min_samples: int = 1,
    max_seconds: float = math.inf,
    max_clipped: float = 1.0,
    progress: Progress = no_progress,
) -> np.ndarray:
    """The audio of a file, (samples,) float32, mixed down to mono and resampled to `sample_rate` Hz.

    Any format and width of libsndfile. A floating-point file that exceeds 1 is scaled down; of a truncated file, the
    rest is read; a DC offset is kept. Mixing, scaling and truncation are logged as warnings on "vcvae", once per file.

    Args:
        trim: remove audio `TRIM` dB below the loudest 10 ms at either end, except for `MARGIN` seconds.
        min_samples: smallest length, at `sample_rate`.
        max_seconds: what follows after these is not read.
        max_clipped: largest share of samples at full scale.
        progress: called with the seconds that are read.

    Raises:
        VcvaeError: a file that is missing, unreadable, empty, no audio, damaged, silent, clipped, too short or NaN.
    """
    chunks = _decode(path, sample_rate, max_clipped=max_clipped, max_seconds=max_seconds, progress=progress)
    chunks = report_blocks(chunks, sample_rate, min(duration(path), max_seconds), progress, "reading")
    samples = np.concatenate(list(chunks))
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


def blocks(
    path: str | Path,
    sample_rate: int,
    seconds: float,
    *,
    max_seconds: float = math.inf,
    progress: Progress = no_progress,
) -> Iterator[np.ndarray]:
    """The samples that `read` gives, in blocks of `seconds` (the last may be shorter) and in bounded memory.

    `progress` is called while the peak of a floating-point file is measured, before the first block.

    Raises:
        VcvaeError: as `read`, at the first block; silence and damage, when they are reached.
    """
    size = max(1, round(seconds * sample_rate))
    waiting = np.empty(0, np.float32)
    for samples in _decode(path, sample_rate, max_seconds=max_seconds, progress=progress):
        waiting = np.concatenate([waiting, samples])
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if len(waiting):
        yield waiting


def duration(path: str | Path) -> float:
    """The seconds that a file says to hold; infinite where it does not say.

    Raises:
        VcvaeError: it cannot be opened.
    """
    with open_audio(path) as file:
        return math.inf if file.frames == _UNKNOWN else file.frames / file.samplerate


def _decode(
    path: str | Path,
    sample_rate: int,
    *,
    max_clipped: float = 1.0,
    max_seconds: float = math.inf,
    progress: Progress = no_progress,
) -> Iterator[np.ndarray]:
    """Chunks (samples,) of the file, or of its first `max_seconds`, checked, mono and at `sample_rate`."""
    gain = _gain(path, max_seconds, progress)
    frames, clipped, lowest, highest = 0, 0, np.inf, -np.inf
    with open_audio(path) as file:
        resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, quality="VHQ")
        for chunk in file.chunks(max_seconds):
            chunk *= gain
            samples = chunk.mean(axis=1)
            frames += len(samples)
            clipped += np.count_nonzero((np.abs(chunk) >= FULL_SCALE).any(axis=1))
            lowest, highest = min(lowest, samples.min()), max(highest, samples.max())
            yield resampler.resample_chunk(samples)
        if frames == 0:
            raise VcvaeError(f"{path}: holds no samples; copy or record it again.")
        is_part = frames < file.frames and frames >= max_seconds * file.samplerate
        part = f" in its first {max_seconds / 60:.3g} minutes, which are used" if is_part else ""
        channels = f" when its {file.channels} channels are mixed" if file.channels > 1 else ""
        if (highest - lowest) / 2 < 10 ** (SILENCE / 20):
            raise VcvaeError(f"{path}: silent{channels}{part} (below {SILENCE:.0f} dB); give one with a voice.")
        if clipped > max_clipped * frames:
            raise VcvaeError(f"{path}: clipped, as {clipped / frames:.1%} of it is at full scale; record it lower.")
        if channels:
            _warn_once(f"{path}: its {file.channels} channels are mixed down to one.")
        cut_short = _CUT_SHORT.search(file.extra_info)
        if is_part:
            _warn_once(f"{path}: the first {max_seconds / 60:.3g} minutes are used.")
        elif frames < file.frames != _UNKNOWN or (cut_short and int(cut_short[1] or 0) < _STREAMED):
            _warn_once(f"{path}: damaged or cut short; {frames / file.samplerate:.2f} s of it can be read.")
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _gain(path: str | Path, max_seconds: float, progress: Progress) -> np.float32:
    """The factor that scales the peak of a floating-point file down to 1; other formats cannot exceed it by much."""
    peak = np.float32(1)
    with open_audio(path) as file:
        seconds = min(file.frames / file.samplerate, max_seconds)
        chunks = file.chunks(max_seconds) if file.subtype in ("FLOAT", "DOUBLE") else ()
        for chunk in report_blocks(chunks, file.samplerate, seconds, progress, "measuring the peak", axis=0):
            if not np.isfinite(chunk).all():
                raise VcvaeError(f"{path}: holds NaN or infinite samples; export it again.")
            peak = max(peak, np.abs(chunk).max())
    if peak > 1:
        _warn_once(f"{path}: scaled down by {20 * np.log10(peak):.1f} dB, as its samples exceed full scale.")
    return 1 / peak


def _trimmed(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    frame, margin = sample_rate // 100, round(MARGIN * sample_rate)
    whole = len(samples) // frame * frame
    last = np.pad(samples[whole:], (0, -len(samples) % frame), mode="edge") if whole < len(samples) else samples[:0]
    # A minute at a time, since NumPy copies what it takes the standard deviation of.
    stretches = [samples[start : min(start + 6000 * frame, whole)] for start in range(0, whole, 6000 * frame)]
    levels = np.concatenate([stretch.reshape(-1, frame).std(axis=1) for stretch in [*stretches, last]])
    loud = np.flatnonzero(levels >= levels.max() * 10 ** (-TRIM / 20))  # a DC offset does not count
    return samples[max(0, loud[0] * frame - margin) : (loud[-1] + 1) * frame + margin]
