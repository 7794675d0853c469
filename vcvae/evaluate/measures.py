"""What is measured of each conversion. Each measure is a class that is called with a case and its conversion."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vcvae import audio
from vcvae.evaluate.cases import Case
from vcvae.features.f0 import yin
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.metrics.bootstrap import Ratio
from vcvae.metrics.distortion import mel_cepstral_distortion

VOICED = 20  # f0 frames, half a second: with fewer in common, two contours are not compared
HEARING = 16000  # Hz; what recognisers and verifiers of speech are made for


class Value(NamedTuple):
    """Of a conversion, and, to compare, of its source as it is; a `Ratio` where cases weigh by what they count."""

    conversion: float | Ratio
    source: float | Ratio = math.nan


class Measure(Protocol):
    """`labels` says what each key of a measurement is."""

    labels: dict[str, str]

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]: ...


class F0Correlation:
    """Whether the conversion follows the f0_l1 of its source."""

    labels: ClassVar = {"f0_correlation": "correlation of log-F0 with the source's"}

    def __init__(self, mel: MelConfig) -> None:
        self.mel = mel

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        rate = self.mel.sample_rate
        contours = (audio.read(path, rate) for path in (case.source, conversion))
        return {"f0_correlation": Value(f0_correlation(*contours, sample_rate=rate, hop=self.mel.hop))}


def f0_correlation(a: NDArray[np.floating], b: NDArray[np.floating], *, sample_rate: int, hop: int = 256) -> float:
    """Pearson's correlation of the log-F0 of two recordings (samples,), frame by frame where both are voiced.

    NaN where they share fewer than `VOICED` such frames, or one's f0 never changes.
    """
    one, other = (yin(torch.from_numpy(x)[None].float(), sample_rate=sample_rate, hop=hop) for x in (a, b))
    frames = min(one.voicing.shape[1], other.voicing.shape[1])
    voiced = ((one.voicing[:, :frames] > 0.5) & (other.voicing[:, :frames] > 0.5))[0]
    x, y = (f0.log_f0[0, :frames][voiced].double().numpy() for f0 in (one, other))
    if len(x) < VOICED or min(x.std(), y.std()) < 1e-6:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


class Distortion:
    """How far the conversion is from the target saying the same, where there is a recording of it."""

    labels: ClassVar = {"distortion": "mel-cepstral distortion from the reference, dB"}

    def __init__(self, mel: MelConfig) -> None:
        self.rate, self.spectrogram = mel.sample_rate, MelSpectrogram(mel)

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        if case.reference is None:
            return {}
        least = self.spectrogram.config.minimum_samples
        reference, converted, source = (
            self.spectrogram(torch.from_numpy(audio.read(path, self.rate, trim=True, min_samples=least))[None])[0]
            for path in (case.reference, conversion, case.source)
        )
        distances = (mel_cepstral_distortion(mel, reference) for mel in (converted, source))
        return {"distortion": Value(*distances)}


class Similarity:
    """Whose voice a verifier hears: cosines with the mean of the targets' embeddings, and with the source's."""

    def __init__(self, name: str, embed: Callable[[NDArray[np.float32]], NDArray[np.floating]]) -> None:
        """`embed` takes samples (samples,) at 16 kHz to a vector."""
        self.keys = f"{name}_target", f"{name}_source"
        self.labels = {
            self.keys[0]: f"similarity to the target, {name}",
            self.keys[1]: f"similarity to the source, {name}",
        }
        self._embed = functools.cache(lambda path: _unit(embed(_hear(path))))

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        target = _unit(np.mean([self._embed(path) for path in case.targets], axis=0))
        source, converted = self._embed(case.source), self._embed(conversion)
        return {
            self.keys[0]: Value(float(converted @ target), float(source @ target)),
            self.keys[1]: Value(float(converted @ source), 1.0),
        }


class Words:
    """What a recogniser mishears, against the transcript; where there is none, against what it hears in the source."""

    labels: ClassVar = {"word_errors": "word error rate", "character_errors": "character error rate"}

    def __init__(self, transcribe: Callable[[NDArray[np.float32]], str], normalize: Callable[[str], str]) -> None:
        """`transcribe` takes samples (samples,) at 16 kHz to text, `normalize` text to words that compare."""
        self.normalize = normalize
        self._heard = functools.cache(lambda path: transcribe(_hear(path)))

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        import jiwer

        heard = {path: self.normalize(self._heard(path)) for path in (conversion, case.source)}
        said = self.normalize(case.transcript) if case.transcript else heard[case.source]
        if not said:
            return {}

        def errors(count, text: str) -> Ratio:
            found = count(said, text)
            wrong = found.substitutions + found.deletions + found.insertions
            return Ratio(wrong, found.substitutions + found.deletions + found.hits)

        def value(count) -> Value:
            # A source whose transcript is not known is not judged by itself.
            own = errors(count, heard[case.source]) if case.transcript else math.nan
            return Value(errors(count, heard[conversion]), own)

        return {"word_errors": value(jiwer.process_words), "character_errors": value(jiwer.process_characters)}


class Quality:
    """How natural or clean a network finds the sound."""

    def __init__(self, labels: dict[str, str], rate: Callable[[NDArray[np.float32]], dict[str, float]]) -> None:
        """`rate` takes samples (samples,) at 16 kHz to a figure for each key of `labels`."""
        self.labels = labels
        self._rate = functools.cache(lambda path: rate(_hear(path)))

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        converted, source = self._rate(conversion), self._rate(case.source)
        return {key: Value(converted[key], source[key]) for key in self.labels}


def _hear(path: Path) -> NDArray[np.float32]:
    return audio.read(path, HEARING)


def _unit(vector: NDArray[np.floating]) -> NDArray[np.floating]:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
