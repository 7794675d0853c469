"""Training a converter for one pair of speakers, from recordings in which both say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

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


class ParallelConfig(Config):
    """A run that fits the joint density of two speakers."""

    task: Literal["gmm_conversion"] = Field("gmm_conversion", description="what is trained: gmm_conversion")
    output: str = Field(description="folder of the model")
    source: str = Field(description="folder of the source speaker's recordings")
    target: str = Field(description="folder of the target's; recordings of the same names say the same")
    model: GMMConversionConfig = GMMConversionConfig()
    rounds: int = Field(2, gt=0, description="of aligning the recordings and fitting the density")
    held_out: float = Field(0.1, ge=0, lt=1, description="share of the sentences, the last ones, that only judge")
    seed: int = Field(0, ge=0, description="of the density's first guess")


def fit(config: ParallelConfig, console: Console) -> Path:
    """Fit the model, say how much nearer it brings the held-out sentences, and write it to its folder.

    Raises:
        VcvaeError: fewer than two sentences that both folders hold, or recordings that cannot be used.
    """
    mel = config.model.mel
    sentences = _sentences(Path(config.source), Path(config.target))
    sources, targets = ([audio.read(pair[i], mel.sample_rate, trim=True) for pair in sentences] for i in (0, 1))
    octaves = _register(targets, mel) - _register(sources, mel)
    spectrogram = MelSpectrogram(mel)

    def hear(samples) -> Tensor:
        return spectrogram(torch.from_numpy(samples)[None])[0]

    pairs = [
        (hear(shift_pitch(source, octaves, mel.sample_rate)), hear(target))
        for source, target in zip(sources, targets, strict=True)
    ]
    judged = max(1, round(config.held_out * len(pairs))) if config.held_out else 0
    learned, unseen = pairs[: len(pairs) - judged], pairs[len(pairs) - judged :]
    model = GMMConversion.fit(learned, config.model, octaves=octaves, rounds=config.rounds, seed=config.seed)
    folder = Path(config.output)
    with disk_errors(folder):
        model.save_pretrained(folder)
    line = f"{folder}: {len(learned)} sentences, {octaves:+.2f} octaves"
    if unseen:
        before, after = (
            sum(mel_cepstral_distortion(x, target) for x, target in compared) / len(unseen)
            for compared in (unseen, [(model.convert(source), target) for source, target in unseen])
        )
        line += f"; mel-cepstral distortion of {len(unseen)} unseen: {before:.2f} dB before, {after:.2f} dB after"
    console.print(line, soft_wrap=True, highlight=False)
    return folder


def _sentences(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Recordings of one name in both folders, in the order of the names."""
    found = []
    for folder in (source, target):
        with disk_errors(folder, "read"):
            found.append({file.stem: file for file in audio.find(folder)})
    names = sorted(found[0].keys() & found[1].keys())
    if len(names) < 2:
        raise VcvaeError(
            f"{source} and {target}: {len(names)} recordings of the same name in both; give two folders in which files "
            "that say the same are named the same."
        )
    return [(found[0][name], found[1][name]) for name in names]


def _register(recordings: list, mel: MelConfig) -> float:
    """Mean log2 F0 of a speaker over all recordings."""
    statistics = [
        yin(torch.from_numpy(samples)[None], sample_rate=mel.sample_rate, hop=mel.hop).statistics().mean
        for samples in recordings
    ]
    f0_statistics = torch.cat(statistics).nanmean().item()
    if f0_statistics != f0_statistics:
        raise VcvaeError("a speaker is never voiced in these recordings; give recordings of speech.")
    return f0_statistics
