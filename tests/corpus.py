"""Training data in miniature: generated speakers, as a prepared corpus or as a batch, and the smallest models."""

from __future__ import annotations

from pathlib import Path

import soundfile as sf
import torch
from torch import Tensor

from tests.synthetic import RATE, speak
from vcvae.data.prepare import prepare

# The smallest model that has all its parts.
TINY = {
    "fast_channels": 16,
    "slow_channels": 16,
    "content_latent": 4,
    "speaker_latent": 8,
    "speaker_channels": 16,
    "f0_channels": 8,
}

# The smallest ECAPA trunk.
TINY_ECAPA = {"channels": 16, "scale": 4, "bottleneck": 8}

# The smallest speech recognition encoder.
TINY_RECOGNIZER = {"channels": 16, "heads": 2, "layers": 2}

# The keys that every training configuration must have, for tasks that read and write nothing.
NO_FILES = {"output": "", "data": {"train": "", "dev": ""}}


def make_corpus(folder: Path, *, speakers: int = 4, utterances: int = 2, seconds: float = 1.5) -> Path:
    """`folder/ready/train`, prepared, of `speakers` that differ in F0 and vocal tract length."""
    for k in range(speakers):
        (folder / "source" / f"speaker{k}").mkdir(parents=True)
        for i in range(utterances):
            words = ("aiueo", "osiafu", "uaeiso")[i % 3]
            samples = speak(words, f0=100 + 40 * k, tract=1 + 0.05 * k, seconds=seconds, seed=10 * k + i)
            sf.write(folder / "source" / f"speaker{k}" / f"{i}.wav", samples, 22050)
    prepare("folder", folder / "source", folder / "ready", sample_rate=22050, dev=0, test=0)
    return folder / "ready" / "train"


def speech_batch(bandwidth: list[list[float]], *, seconds: float, f0_step: float) -> dict[str, Tensor]:
    """A training batch of generated speakers whose segments have this bandwidth, (speakers, segments) in Hz.

    Segments are a multiple of 2048 samples long. Each speaker's F0 is `f0_step` above that of the one before.
    """
    samples = round(seconds * RATE) // 2048 * 2048
    speakers = [
        [torch.from_numpy(speak("aiueo", f0=100 + f0_step * k, seconds=seconds, seed=i)) for i in range(len(row))]
        for k, row in enumerate(bandwidth)
    ]
    return {
        "samples": torch.stack([torch.stack(segments)[:, :samples] for segments in speakers]),
        "bandwidth": torch.tensor(bandwidth),
        "speaker": torch.arange(len(bandwidth)),
    }
