"""Fitting a joint-density (GMM) converter for one pair of speakers to parallel recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from rich.console import Console
from torch import Tensor

from vcvae import audio
from vcvae.config import Config
from vcvae.errors import VcvaeError, disk_errors
from vcvae.features.f0 import shift_pitch, yin
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.metrics.distortion import mel_cepstral_distortion
from vcvae.models.classic.gmm_conversion import GMMConversion, GMMConversionConfig


class JointDensityConfig(Config):
    """What `vcvae fit` fits: a converter from one speaker to another."""

    output: str = Field(description="folder of the model")
    source: str = Field(description="folder of the source speaker's recordings")
    target: str = Field(description="folder of the target speaker's recordings of the same sentences and names")
    model: GMMConversionConfig = GMMConversionConfig()
    rounds: int = Field(2, gt=0, description="iterations of aligning the recordings and fitting the density")
    held_out: float = Field(0.1, ge=0, lt=1, description="share of the sentences, the last ones, kept for evaluation")
    seed: int = Field(0, ge=0, description="seed of the initial density")


def fit(config: JointDensityConfig, console: Console) -> Path:
    """Fit the converter, print its mel-cepstral distortion on the held-out sentences, and save it; returns its folder.

    Raises:
        VcvaeError: the folders have fewer than two recordings of the same name, a recording cannot be used, or the
            model cannot be written.
    """
    mel_config = config.model.mel
    spectrogram = MelSpectrogram(mel_config)
    sentences = _sentences(Path(config.source), Path(config.target))
    sources = [audio.read(source, mel_config.sample_rate, trim=True) for source, _ in sentences]
    targets = [audio.read(target, mel_config.sample_rate, trim=True) for _, target in sentences]
    octaves = _mean_log_f0(targets, mel_config) - _mean_log_f0(sources, mel_config)

    def log_mel(samples: np.ndarray) -> Tensor:
        return spectrogram(torch.from_numpy(samples)[None])[0]

    pairs = []
    for source, target in zip(sources, targets, strict=True):
        shifted = shift_pitch(source, octaves, mel_config.sample_rate)
        pairs.append((log_mel(shifted), log_mel(target)))
    n_held_out = max(1, round(config.held_out * len(pairs))) if config.held_out else 0
    n_fitted = len(pairs) - n_held_out
    fitted, held_out = pairs[:n_fitted], pairs[n_fitted:]
    model = GMMConversion.fit(fitted, config.model, octaves=octaves, rounds=config.rounds, seed=config.seed)
    folder = Path(config.output)
    with disk_errors(folder):
        model.save_pretrained(folder)
    line = f"{folder}: {n_fitted} sentences, {octaves:+.2f} octaves"
    if held_out:
        before = np.mean([mel_cepstral_distortion(source, target) for source, target in held_out])
        after = np.mean([mel_cepstral_distortion(model.convert(source), target) for source, target in held_out])
        line += f"; mel-cepstral distortion of {n_held_out} held-out: {before:.2f} dB before, {after:.2f} dB after"
    console.print(line, soft_wrap=True, highlight=False)
    return folder


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
