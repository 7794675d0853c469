"""A corpus in miniature: generated speakers, prepared for training."""

from __future__ import annotations

from pathlib import Path

import soundfile as sf

from tests.synthetic import speak
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
