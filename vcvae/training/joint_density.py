"""Fitting a joint-density (GMM) converter for one pair of speakers to parallel recordings."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vcvae import audio
from vcvae.config import Config
from vcvae.errors import VcvaeError, disk_errors
from vcvae.features.cepstrum import MAX_ALIGNED_SECONDS
from vcvae.features.f0 import shift_pitch, yin
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.metrics.distortion import mel_cepstral_distortion
from vcvae.models.classic.gmm_conversion import GMMConversion, GMMConversionConfig
from vcvae.progress import Progress, no_progress

MAX_MINUTES = 60.0  # of the source's speech that are used: all sentences are held at once
_log = logging.getLogger("vcvae")


class JointDensityConfig(Config):
    """What `vcvae fit` fits: a converter from one speaker to another."""

    output: str = Field(description="folder of the model")
    source: str = Field(description="folder of the source speaker's recordings")
    target: str = Field(description="folder of the target speaker's recordings of the same sentences and names")
    model: GMMConversionConfig = GMMConversionConfig()
    rounds: int = Field(2, gt=0, le=100, description="iterations of aligning the recordings and fitting the density")
    held_out: float = Field(0.1, ge=0, lt=1, description="share of the sentences, the last ones, kept for evaluation")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the initial density")


@dataclass(frozen=True)
class FitReport:
    """What the converter was fitted to, and the mel-cepstral distortion (dB) of the `held_out` sentences.

    The distortion is that of the source's mel from the target's, before and after conversion; NaN if none is held out.
    """

    sentences: int
    octaves: float
    held_out: int
    before: float
    after: float


def fit(config: JointDensityConfig, *, progress: Progress = no_progress) -> FitReport:
    """Fit the converter to the parallel recordings and save it.

    Args:
        progress: called with the number of sentences that are read, and whose mels are computed.

    Raises:
        VcvaeError: the folders have fewer than two recordings of the same name, a recording cannot be used, or the
            model cannot be written.
    """
    mel_config = config.model.mel
    spectrogram = MelSpectrogram(mel_config)
    sentences = _sentences(Path(config.source), Path(config.target))
    sources, targets, seconds = [], [], 0.0
    for done, (source, target) in enumerate(sentences):
        progress(done, len(sentences), "reading")
        sources.append(_read(source, mel_config.sample_rate))
        targets.append(_read(target, mel_config.sample_rate))
        seconds += len(sources[-1]) / mel_config.sample_rate
        if seconds > 60 * MAX_MINUTES:
            _log.warning(f"{config.source}: the first {done + 1} of {len(sentences)} sentences are used.")
            sentences = sentences[: done + 1]
            break
    octaves = _mean_log_f0(targets, mel_config) - _mean_log_f0(sources, mel_config)

    def log_mel(samples: np.ndarray) -> Tensor:
        return spectrogram(torch.from_numpy(samples)[None])[0]

    pairs = []
    for done, (source, target) in enumerate(zip(sources, targets, strict=True)):
        progress(done, len(sentences), "computing mels")
        shifted = shift_pitch(source, octaves, mel_config.sample_rate)
        pairs.append((log_mel(shifted), log_mel(target)))
    progress(0, None, "fitting the Gaussian mixture")
    n_held_out = max(1, round(config.held_out * len(pairs))) if config.held_out else 0
    n_fitted = len(pairs) - n_held_out
    fitted, held_out = pairs[:n_fitted], pairs[n_fitted:]
    model = GMMConversion.fit(fitted, config.model, octaves=octaves, rounds=config.rounds, seed=config.seed)
    folder = Path(config.output)
    with disk_errors(folder):
        model.save_pretrained(folder)
    before = [mel_cepstral_distortion(source, target) for source, target in held_out]
    after = [mel_cepstral_distortion(model.convert(source), target) for source, target in held_out]
    return FitReport(n_fitted, octaves, n_held_out, _mean(before), _mean(after))


def _read(sentence: Path, sample_rate: int) -> np.ndarray:
    """The samples (samples,) of a recording.

    Raises:
        VcvaeError: it cannot be used, or is too long to be aligned.
    """
    samples = audio.read(sentence, sample_rate, trim=True, max_seconds=2 * MAX_ALIGNED_SECONDS)
    seconds = len(samples) / sample_rate
    if seconds > MAX_ALIGNED_SECONDS:
        raise VcvaeError(
            f"{sentence}: longer than {MAX_ALIGNED_SECONDS} s, too long to be aligned; cut it, and its pair."
        )
    return samples


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _sentences(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Pairs of recordings with the same name in both folders, sorted by name.

    Raises:
        VcvaeError: there are fewer than two.
    """
    with disk_errors(source, "read"):
        sources = {file.stem: file for file in audio.find(source)}
    with disk_errors(target, "read"):
        targets = {file.stem: file for file in audio.find(target)}
    names = sorted(sources.keys() & targets.keys())
    if len(names) < 2:
        raise VcvaeError(
            f"{source} and {target}: {len(names)} recordings have the same name in both; give two folders in which "
            "recordings of the same sentence have the same name."
        )
    return [(sources[name], targets[name]) for name in names]


def _mean_log_f0(recordings: list[np.ndarray], mel: MelConfig) -> float:
    """Mean log2 F0 of a speaker over all recordings.

    Raises:
        VcvaeError: no recording has voiced frames.
    """
    means = [
        yin(torch.from_numpy(samples)[None], sample_rate=mel.sample_rate, hop=mel.hop).statistics().mean
        for samples in recordings
    ]
    mean = torch.cat(means).nanmean()
    if mean.isnan():
        raise VcvaeError("no recording of a speaker has voiced frames; give recordings of speech.")
    return mean.item()
