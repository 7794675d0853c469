"""Live conversion: a worker thread between what takes samples in and what plays them, each at its own pace.

Sound devices call back from a thread of their own, in which nothing may take long: there, samples are only copied into
buffers and out of them, which are made once.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import soxr

from vcvae.convert.stream import Stream

RESERVE = 0.06  # seconds of converted samples that wait to be played, beside a step's, so that none comes too late
CAPACITY = 1.0  # seconds that a player's buffer holds
BACKLOG = 0.3  # seconds of the source that may wait to be converted; more is dropped, so that the delay does not grow
TOO_SLOW = 5  # blocks dropped in one report from which the machine counts as too slow


class Buffer:
    """Samples from one thread to another: a ring that is written and read without locks or allocation.

    Example:
        >>> buffer = Buffer(8)
        >>> buffer.write(np.arange(3, dtype=np.float32))
        True
        >>> out = np.zeros(2, np.float32)
        >>> buffer.read(out), out.tolist(), buffer.filled
        (True, [0.0, 1.0], 1)
    """

    def __init__(self, capacity: int) -> None:
        self._ring = np.zeros(capacity, np.float32)
        self.written = self.taken = 0  # each is changed by one thread only

    @property
    def filled(self) -> int:
        """Samples that wait."""
        return self.written - self.taken

    def write(self, samples: np.ndarray) -> bool:
        """Add samples (samples,), or none of them, where there is no room."""
        if self.filled + len(samples) > len(self._ring):
            return False
        start = self.written % len(self._ring)
        first = min(len(samples), len(self._ring) - start)
        self._ring[start : start + first] = samples[:first]
        self._ring[: len(samples) - first] = samples[first:]
        self.written += len(samples)
        return True

    def read(self, out: np.ndarray) -> bool:
        """Fill `out` (samples,), or leave it, where too few wait."""
        if self.filled < len(out):
            return False
        start = self.taken % len(self._ring)
        first = min(len(out), len(self._ring) - start)
        out[:first] = self._ring[start : start + first]
        out[first:] = self._ring[: len(out) - first]
        self.taken += len(out)
        return True

    def skip(self, count: int) -> None:
        """Leave out samples that wait."""
        self.taken += min(count, self.filled)


class Player:
    """Gives converted samples at the pace of an output device, with as short a wait as is safe."""

    def __init__(self, sample_rate: int, *, wait: float) -> None:
        """`wait` is the number of seconds of samples that may wait to be played when some have just arrived."""
        self.sample_rate = sample_rate
        self.dropped = 0  # blocks of silence, for want of samples
        self.buffer = Buffer(round(CAPACITY * sample_rate))
        self._wait = round(wait * sample_rate)
        self._plays = False
        self._silence: int | None = None  # samples of it before playing begins; None while there is nothing to play

    def play(self, out: np.ndarray) -> None:
        """Fill the next block `out` (samples,), with silence until there are samples enough."""
        if not self._plays:
            if self._silence is None and self.buffer.filled:
                self._silence = self._wait - self.buffer.filled
            if self._silence is None or self._silence > 0 or self.buffer.filled < len(out):
                self._silence = self._silence and self._silence - len(out)
                out[:] = 0
                return
            self._plays, self._silence = True, None
        surplus = self.buffer.filled - max(self._wait, len(out))
        if surplus > self._wait / 4:  # what came too late, and then at once: the delay must not stay
            self.buffer.skip(surplus)
        if not self.buffer.read(out):
            self._plays = False
            self.dropped += 1
            out[:] = 0


@dataclass(frozen=True)
class Report:
    """Of the time since the last report: levels in dB of full scale, load of one core, blocks that were dropped.

    `latency` is that of algorithm, computing and buffers, in seconds, without the devices'.
    """

    source_level: float
    converted_level: float
    latency: float
    load: float
    dropped: int


class LiveConversion:
    """Runs a stream in a thread; `take` and `Player.play` may be called from others."""

    def __init__(self, stream: Stream, *, input_rate: int, players: list[Player]) -> None:
        """
        Args:
            stream: a new one.
            input_rate: of the samples that `take` gets, in Hz.
            players: of the converted samples.
        """
        rate = stream.sample_rate
        self._stream = stream
        self._players = players
        self._input = Buffer(round(BACKLOG * input_rate))
        self._resample_input = _resampler(input_rate, rate)
        self._resample_outputs = [_resampler(rate, player.sample_rate) for player in players]
        self._input_rate = input_rate
        self._most = round(stream.step * input_rate)  # samples that are converted at a time
        self._arrived = threading.Event()
        self._stopped = False
        self._lost = 0  # blocks of the input that were dropped, as the buffer was full
        self._error: Exception | None = None
        self._clear_sums()
        self._thread = threading.Thread(target=self._run, name="live conversion", daemon=True)

    def start(self) -> None:
        """Begin to convert."""
        self._thread.start()

    def take(self, samples: np.ndarray) -> None:
        """The next samples (samples,) of the source. Takes no time, and never waits."""
        if not self._input.write(samples):
            self._lost += 1
        self._arrived.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._arrived.set()
        self._thread.join()

    @property
    def latency(self) -> float:
        """From a sample's arrival to its place at the head of the first player's buffer, in seconds, now."""
        player = self._players[0]
        return self._input.written / self._input_rate - player.buffer.taken / player.sample_rate

    def report(self) -> Report:
        """What happened since the last report.

        Raises:
            VcvaeError: the conversion has failed.
        """
        if self._error:
            raise self._error
        dropped = self._lost + sum(player.dropped for player in self._players)
        elapsed = max(time.perf_counter() - self._since, 1e-6)
        report = Report(
            _decibels(self._source_energy),
            _decibels(self._converted_energy),
            self.latency,
            self._busy / elapsed,
            dropped - self._dropped_before,
        )
        self._dropped_before = dropped
        self._clear_sums()
        return report

    def _clear_sums(self) -> None:
        self._since, self._busy = time.perf_counter(), 0.0
        self._source_energy = self._converted_energy = (0.0, 0)
        if not hasattr(self, "_dropped_before"):
            self._dropped_before = 0

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._arrived.wait()
                self._arrived.clear()
                while self._input.filled and not self._stopped:
                    self._convert()
        except Exception as error:
            self._error = error

    def _convert(self) -> None:
        began = time.perf_counter()
        samples = np.empty(min(self._input.filled, self._most), np.float32)
        self._input.read(samples)
        self._source_energy = _added(self._source_energy, samples)
        converted = self._stream.push(self._resample_input(samples))
        self._converted_energy = _added(self._converted_energy, converted)
        for player, resample in zip(self._players, self._resample_outputs, strict=True):
            player.buffer.write(resample(converted))
        self._busy += time.perf_counter() - began


def _resampler(rate: int, new_rate: int):
    """A function that resamples a stream piece by piece; in low quality, as better filters delay by 40 ms."""
    if rate == new_rate:
        return lambda samples: samples
    return soxr.ResampleStream(rate, new_rate, 1, quality="LQ").resample_chunk


def _added(energy: tuple[float, int], samples: np.ndarray) -> tuple[float, int]:
    return energy[0] + float(np.square(samples).sum()), energy[1] + len(samples)


def _decibels(energy: tuple[float, int]) -> float:
    return 10 * float(np.log10(energy[0] / max(energy[1], 1) + 1e-10))
