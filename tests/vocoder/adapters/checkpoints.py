"""What the tests of public checkpoints share: the mel of HiFi-GAN's kind, and files that are no checkpoint."""

from pathlib import Path

import torch

HIFIGAN_MEL = {  # in the config.json of HiFi-GAN and BigVGAN
    "num_mels": 80,
    "n_fft": 1024,
    "hop_size": 256,
    "win_size": 1024,
    "sampling_rate": 22050,
    "fmin": 0,
    "fmax": 8000,
}
DAMAGES = ("empty", "text", "cut", "other", "list", "objects")


def damage(path: Path, kind: str) -> None:
    """Put something else in the place of a checkpoint, or cut it; `kind` is one of `DAMAGES`."""
    if kind in ("empty", "text"):
        path.write_text("" if kind == "empty" else "weights")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        torch.save({"other": {"model": {}}, "list": [1], "objects": {"generator": {"a": Path()}}}[kind], path)
