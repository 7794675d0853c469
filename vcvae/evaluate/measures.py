"""The measures of a conversion. Each is a class whose instances are called with a case and its converted recording."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcvae.errors import VcvaeError
from vcvae.evaluate.cases import Case, read_start
from vcvae.features.cepstrum import MAX_ALIGNED_SECONDS
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.metrics.bootstrap import Ratio
from vcvae.metrics.distortion import mel_cepstral_distortion
from vcvae.metrics.f0 import f0_correlation

NETWORK_SAMPLE_RATE = 16000  # Hz; of the recognizers, verifiers and quality predictors that measure conversions


class Value(NamedTuple):
    """The figure of a conversion and, for comparison, of its source; a `Ratio` where cases are weighted by a count."""

    conversion: float | Ratio
    source: float | Ratio = math.nan


class Measure(Protocol):
    """`labels` describes each key of a measurement."""

    labels: dict[str, str]

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]: ...


class F0Correlation:
    """Correlation of the conversion's log-F0 with the source's: whether intonation is kept."""

    labels: ClassVar = {"f0_correlation": "correlation of log-F0 with the source's"}

    def __init__(self, mel: MelConfig) -> None:
        self.mel = mel

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        rate = self.mel.sample_rate
        source = read_start(case.source, rate)
        converted = read_start(conversion, rate)
        return {"f0_correlation": Value(f0_correlation(source, converted, sample_rate=rate, hop=self.mel.hop))}


class Distortion:
    """Mel-cepstral distortion between the conversion and the target speaker's recording of the same words."""

    labels: ClassVar = {"distortion": "mel-cepstral distortion from the reference, dB"}

    def __init__(self, mel: MelConfig) -> None:
        self.sample_rate = mel.sample_rate
        self.spectrogram = MelSpectrogram(mel)

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        if case.reference is None:
            return {}
        reference_mel = self._mel(case.reference)
        converted = mel_cepstral_distortion(self._mel(conversion), reference_mel)
        source = mel_cepstral_distortion(self._mel(case.source), reference_mel)
        return {"distortion": Value(converted, source)}

    def _mel(self, path: Path) -> Tensor:
        """Log-mel (n_mels, frames) of a recording without the silence at its ends."""
        min_samples = self.spectrogram.config.minimum_samples
        samples = read_start(path, self.sample_rate, trim=True, min_samples=min_samples)
        seconds = len(samples) / self.sample_rate
        if seconds > MAX_ALIGNED_SECONDS:
            raise VcvaeError(
                f"{path}: {seconds:.0f} s long; recordings of at most {MAX_ALIGNED_SECONDS} s are aligned; cut it."
            )
        return self.spectrogram(torch.from_numpy(samples)[None])[0]


class Similarity:
    """Cosine of a verifier's embedding of the conversion with the mean of the targets', and with the source's."""

    def __init__(self, name: str, embed: Callable[[NDArray[np.float32]], NDArray[np.floating]]) -> None:
        """`embed` maps samples (samples,) at `NETWORK_SAMPLE_RATE` to an embedding (values,)."""
        self.name = name
        self.to_target = f"{name}_target"
        self.to_source = f"{name}_source"
        self.labels = {
            self.to_target: f"similarity to the target, {name}",
            self.to_source: f"similarity to the source, {name}",
        }
        self.embed = functools.cache(lambda path: _unit_length(embed(_read(path))))

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        return {
            self.to_target: Value(self.cosine(conversion, case.targets), self.cosine(case.source, case.targets)),
            self.to_source: Value(self.cosine(conversion, [case.source]), 1.0),
        }

    def cosine(self, recording: Path, others: Sequence[Path]) -> float:
        """The cosine of a recording's embedding with the mean of those of others."""
        mean = _unit_length(np.mean([self.embed(path) for path in others], axis=0))
        return float(self.embed(recording) @ mean)


class WordErrors:
    """Word and character error rates of a speech recognizer.

    Errors are counted against the transcript; without one, against what the recognizer transcribes of the source.
    """

    def __init__(
        self,
        name: str,
        transcribe: Callable[[NDArray[np.float32]], str],
        normalize: Callable[[str], str],
        *,
        prefix: str = "",
    ) -> None:
        """
        Args:
            name: of the recognizer, for the labels.
            transcribe: maps samples (samples,) at `NETWORK_SAMPLE_RATE` to text.
            normalize: removes the formatting of a text.
            prefix: of the keys, where several recognizers measure.
        """
        self.words, self.characters = f"{prefix}word_errors", f"{prefix}character_errors"
        self.labels = {self.words: f"word error rate, {name}", self.characters: f"character error rate, {name}"}
        self.normalize = normalize
        self._transcribe = functools.cache(lambda path: transcribe(_read(path)))

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        import jiwer

        of_conversion = self.normalize(self._transcribe(conversion))
        of_source = self.normalize(self._transcribe(case.source))
        expected = self.normalize(case.transcript) if case.transcript else of_source
        if not expected:
            return {}

        def errors(count: Callable, text: str) -> Ratio:
            alignment = count(expected, text)
            wrong = alignment.substitutions + alignment.deletions + alignment.insertions
            return Ratio(wrong, alignment.substitutions + alignment.deletions + alignment.hits)

        def value(count: Callable) -> Value:
            # Without a transcript the source would be compared with itself.
            own = errors(count, of_source) if case.transcript else math.nan
            return Value(errors(count, of_conversion), own)

        return {self.words: value(jiwer.process_words), self.characters: value(jiwer.process_characters)}


class Quality:
    """Speech quality predicted by a network, without a reference."""

    def __init__(self, labels: dict[str, str], rate: Callable[[NDArray[np.float32]], dict[str, float]]) -> None:
        """`rate` maps samples (samples,) at `NETWORK_SAMPLE_RATE` to a figure for each key of `labels`."""
        self.labels = labels
        self._rate = functools.cache(lambda path: rate(_read(path)))

    def __call__(self, case: Case, conversion: Path) -> dict[str, Value]:
        converted = self._rate(conversion)
        source = self._rate(case.source)
        return {key: Value(converted[key], source[key]) for key in self.labels}


def _read(path: Path) -> NDArray[np.float32]:
    return read_start(path, NETWORK_SAMPLE_RATE)


def _unit_length(vector: NDArray[np.floating]) -> NDArray[np.floating]:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
