"""Conversion of speech while it arrives: samples in, samples out, a fifth of a second later.

The source's mel passes through the model in a sliding window, normalized by running statistics
(`models.conversion.running`); what has `LOOK_AHEAD` frames after it is final, and the vocoder synthesizes it at once
(`vocoder.low_latency`).
"""

from __future__ import annotations

import copy
import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vcvae import audio
from vcvae.convert.level import PAUSE_THRESHOLD, attenuate_pauses
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour
from vcvae.models.conversion.config import REDUCTION
from vcvae.models.conversion.running import RunningModel, RunningMoments, Window
from vcvae.models.conversion.voice import Voice
from vcvae.pretrained import SENTENCES
from vcvae.vocoder.base import Vocoder
from vcvae.vocoder.low_latency import LowLatencyStream
from vcvae.vocoder.source_filter import SourceFilterVocoder

if TYPE_CHECKING:
    from vcvae.convert.converter import Converter

STEP = 2 * REDUCTION  # mel frames that are converted at a time: 93 ms
LOOK_AHEAD = 6  # mel frames that a final frame depends on after it: 70 ms
CONTEXT = 60  # mel frames before those that are final in a window: .7 s, as far as the model's convolutions reach
UNCOUNTED = 8  # newest mel frames, a multiple of 4, which statistics do not count for good: they still change
RECOUNTS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds of speech after which all that has arrived is counted anew
MAX_HISTORY = 2048  # mel frames that are kept for this, pauses included
TYPICAL = 4  # every so many of the sentences that come with the package give the statistics to begin with
LEVEL_MEMORY = 5.0  # seconds of speech after which the source's level is forgotten
FIRST_LEVEL = -3.0  # nepers (-26 dB) relative to typical speech; low, so that the beginning of quiet speech counts
LOUDNESS_PRIOR = 1.0  # seconds of speech that equal loudness counts for, before any is compared
HOLD = 43  # mel frames after speech that still count in statistics, as pauses of speech do: half a second
MAX_GAIN = 2.0  # of the match of the conversion's loudness to the source's, and its inverse
KNEE = 0.8  # amplitude above which peaks are compressed, so that none exceeds full scale


class Activity:
    """Which frames of a source are speech, and their level in nepers, from what has arrived."""

    def __init__(self, first_level: float, *, frame_rate: float) -> None:
        """`first_level` is the level that is assumed before the first speech."""
        self.level = first_level
        self._energy = RunningMoments(torch.zeros(1), torch.zeros(1), prior=0.0, memory=LEVEL_MEMORY * frame_rate)
        self._hold = 0

    def push(self, mel: Tensor) -> Tensor:
        """The next frames' ln-mel (bands, frames) → 1 for those that count in statistics, else 0, (frames,)."""
        energy = torch.exp(2 * mel).sum(dim=0)
        weight = torch.zeros_like(energy)
        threshold = math.exp(2 * (self.level - PAUSE_THRESHOLD))
        for i, value in enumerate(energy.tolist()):
            self._hold = HOLD if value > threshold else self._hold - 1
            weight[i] = float(self._hold > 0)
        mean, _ = self._energy.update(energy[:, None], weight, count=len(energy))
        if self._energy.weight:
            self.level = 0.5 * math.log(float(mean))
        return weight

    def recount(self, mel: Tensor) -> Tensor:
        """`push`, of all frames that have arrived, by the level that is now known."""
        self._energy.reset()
        self._hold = 0
        return self.push(mel)


class Loudness:
    """The gain that makes a conversion as loud as its source, from what has arrived; 1 at first."""

    def __init__(self, *, rate: float) -> None:
        """`rate` is the number of pieces per second."""
        self._prior, self._memory = LOUDNESS_PRIOR * rate, LEVEL_MEMORY * rate
        self._count = self._source = self._converted = 0.0
        self._gain = np.float32(1)

    def apply(self, converted: np.ndarray, source_energy: float) -> np.ndarray:
        """The next piece (samples,), of a source of this energy, as loud as that; an energy of 0 does not count."""
        if source_energy and len(converted):
            kept = min(1.0, self._memory / (self._count + 1))
            self._count = kept * (self._count + 1)
            self._source = kept * (self._source + source_energy)
            self._converted = kept * (self._converted + float(np.square(converted).mean()))
        before = self._gain
        if self._count:
            prior = self._prior * self._source / self._count
            ratio = (self._source + prior) / (self._converted + prior)
            self._gain = np.float32(np.clip(math.sqrt(ratio), 1 / MAX_GAIN, MAX_GAIN))
        return converted * np.linspace(before, self._gain, len(converted), dtype=np.float32)


def check_streams(vocoder: Vocoder) -> None:
    """Raise a VcvaeError where a vocoder cannot synthesize speech as it arrives."""
    if not isinstance(vocoder, SourceFilterVocoder):
        raise VcvaeError("--vocoder: a stream needs the source-filter vocoder; leave the option out.")


class Stream:
    """Converts the samples of one source to one voice as they arrive.

    The converted samples do not depend on how the source is cut into pieces: sample n of the output is the conversion
    of sample n of the source, and is available `latency` seconds after it. Time and memory per second are constant.
    """

    def __init__(self, converter: Converter, voice: Voice, *, pitch_shift: float = 0.0) -> None:
        """
        Args:
            converter: its vocoder must be the source-filter vocoder. On another device than the CPU it is copied to the
                CPU, where the small steps of a stream take least time.
            voice: one voice, (1, …).
            pitch_shift: semitones, added to the F0 after its statistics are matched to the target's.

        Raises:
            VcvaeError: another vocoder.
        """
        check_streams(converter.vocoder)
        if converter.device.type != "cpu":
            model, vocoder = copy.deepcopy(converter.model), copy.deepcopy(converter.vocoder)
            converter, voice = type(converter)(model, vocoder, device="cpu"), voice.to(torch.device("cpu"))
        self.converter = converter
        self.config = converter.mel_config
        self.pitch_shift = pitch_shift
        self._margin = -(-((self.config.n_fft - self.config.hop) // 2) // self.config.hop) * self.config.hop
        self._after = (self.config.n_fft - self.config.hop) // 2  # samples after a frame that its mel depends on
        self._samples = np.zeros(self._margin, np.float32)  # of the source, from `margin` before the next step's first
        self._taken = self._given = 0  # samples that were pushed, and converted ones that were returned
        with torch.inference_mode():
            references = converter.load_references(audio.find(SENTENCES)[::TYPICAL])
            self._model = RunningModel(converter.model, voice, [reference.mel for reference in references])
        self._activity = Activity(self._model.typical_level + FIRST_LEVEL, frame_rate=self.config.frame_rate)
        self._vocoder = LowLatencyStream(converter.vocoder)
        self._loudness = Loudness(rate=self.config.frame_rate / STEP)
        self._energies: deque[float] = deque()  # of the source, in the steps that are not yet converted
        self._mel = torch.zeros(1, self.config.n_mels, 0)  # the window, and whether its frames count
        self._weight = torch.zeros(0)
        self._start = 0  # the window's first frame, from the start of the stream
        self._final = 0  # frames that are converted
        self._recounts = [seconds * self.config.frame_rate for seconds in RECOUNTS]
        self._history, self._history_weight = self._mel, self._weight  # all frames, until the last recount

    @property
    def sample_rate(self) -> int:
        """Of source and conversion, in Hz."""
        return self.config.sample_rate

    @property
    def step(self) -> float:
        """Seconds that are converted at a time."""
        return STEP * self.config.hop / self.sample_rate

    @property
    def latency(self) -> float:
        """The longest time between a sample's arrival and its conversion, in seconds, without that of computing."""
        samples = (STEP + LOOK_AHEAD) * self.config.hop + self._after + self._vocoder.delay
        return samples / self.sample_rate

    @torch.inference_mode()
    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples (samples,) of the source → the converted samples that are now available, (samples,).

        Raises:
            VcvaeError: samples that are not floating-point, or not finite.
        """
        samples = np.asarray(samples)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating) or not np.isfinite(samples).all():
            raise VcvaeError("a stream takes finite floating-point samples, (samples,) in [-1, 1].")
        self._taken += len(samples)
        return self._push(samples)

    @torch.inference_mode()
    def finish(self) -> np.ndarray:
        """The rest of the conversion, (samples,): with it, as many samples are returned as were pushed."""
        pieces = []
        step = np.zeros(STEP * self.config.hop, np.float32)
        while self._given < self._taken:
            pieces.append(self._push(step))
        rest = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        return rest[: len(rest) - (self._given - self._taken)]

    def _push(self, samples: np.ndarray) -> np.ndarray:
        self._samples = np.concatenate([self._samples, samples.astype(np.float32)])
        step = STEP * self.config.hop
        converted = []
        while len(self._samples) >= self._margin + step + self._after:
            converted.append(self._convert_step(self._samples[: self._margin + step + self._after]))
            self._samples = self._samples[step:]
        result = np.concatenate(converted) if converted else np.zeros(0, np.float32)
        self._given += len(result)
        return result

    def _convert_step(self, samples: np.ndarray) -> np.ndarray:
        """The samples of `STEP` frames, with those before and after that their mel depends on → converted samples."""
        skipped = self._margin // self.config.hop
        mel = self.converter.spectrogram(torch.from_numpy(samples)[None])[:, :, skipped : skipped + STEP]
        weight = self._activity.push(mel[0, : self._model.config.encoder_bands])
        self._mel, self._weight = torch.cat([self._mel, mel], dim=2), torch.cat([self._weight, weight])
        if self._recounts and self._history.shape[2] < MAX_HISTORY:
            self._history = torch.cat([self._history, mel], dim=2)
            self._history_weight = torch.cat([self._history_weight, weight])
        self._energies.append(float(weight.max()) * float(samples[self._margin : -self._after].var()))
        final = self._start + self._mel.shape[2] - LOOK_AHEAD  # the frames up to this one become final
        if final <= self._final:
            return np.zeros(0, np.float32)
        self._recount()
        self._enter_window()
        converted, f0 = self._convert_window()
        first = self._final - self._start
        output = self._vocoder.push(converted[:, :, first:], f0[:, first:], final - self._final)
        self._final = final
        return self._limit(self._loudness.apply(output[0].numpy(), self._energies.popleft()))

    def _recount(self) -> None:
        if not self._recounts or self._history_weight.sum() < self._recounts[0]:
            return
        del self._recounts[0]
        self._history_weight = self._activity.recount(self._history[0, : self._model.config.encoder_bands])
        count = self._history.shape[2] - UNCOUNTED - STEP
        window = Window(0, self._history_weight, 0, count, self._activity.level)
        self._model.recount(self._history, window)
        if not self._recounts:
            self._history, self._history_weight = self._history[:, :, :0], self._history_weight[:0]

    def _enter_window(self) -> None:
        start = max(0, self._final - CONTEXT) // REDUCTION * REDUCTION
        end = self._start + self._mel.shape[2]
        self._mel, self._weight = self._mel[:, :, start - self._start :], self._weight[start - self._start :]
        self._start = start
        count = max(0, end - UNCOUNTED)
        counted = max(0, count - STEP) if self._final else 0
        window = Window(start, self._weight, counted - start, count - start, self._activity.level)
        self._model.enter(window)

    def _convert_window(self) -> tuple[Tensor, F0Contour]:
        """Converted ln-mel (1, n_mels, frames) of the window, and its F0, a value per frame."""
        contour, statistics = self._model.source_f0(self._mel)
        target_f0 = self.converter.target_f0(contour, statistics, self._model.voice, pitch_shift=self.pitch_shift)
        converted = self._model.convert(self._mel, target_f0)
        converted = attenuate_pauses(
            converted, self._mel, source_level=self._activity.level, converted_level=self._activity.level
        )
        return converted, target_f0.per_frame(self._mel.shape[2])

    def _limit(self, samples: np.ndarray) -> np.ndarray:
        """Compress what exceeds `KNEE`, sample by sample, so that nothing exceeds full scale."""
        excess = np.abs(samples) - KNEE
        compressed = np.sign(samples) * (KNEE + (1 - KNEE) * np.tanh(excess / (1 - KNEE)))
        return np.where(excess > 0, compressed, samples)
