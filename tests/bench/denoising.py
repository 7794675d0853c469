"""Denoising at 0, 5 and 10 dB: distance to the clean mel, against doing nothing and against a plain auto-encoder.

    python tests/bench/denoising.py DEV --denoiser MODEL [--plain MODEL] [-o OUT]    # DEV: prepared speech, unseen

Half of the recordings get coloured noise, the other half another speaker. With -o, what is heard and what the
denoiser's mel says through the vocoder that ships are written, to be judged by others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from vcvae import audio
from vcvae.data.manifest import Manifest
from vcvae.mel import MelSpectrogram
from vcvae.models import load_autoencoder
from vcvae.training.corruption import CorruptionConfig, corrupt
from vcvae.vocode import speak
from vcvae.vocoder import load_vocoder

SECONDS = 6
NOISES = {"noise": {"noise": 1.0, "babble": 0.0}, "voice": {"noise": 0.0, "babble": 1.0}}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--denoiser", required=True)
    parser.add_argument("--plain")
    parser.add_argument("--count", type=int, default=20, help="recordings, each of another speaker")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    denoiser = load_autoencoder(arguments.denoiser, denoising=True).eval()
    mel = denoiser.config.mel
    systems = {"nothing done": lambda x: x, "denoised": denoiser.copy}
    if arguments.plain:
        systems["plain auto-encoder"] = load_autoencoder(arguments.plain).eval().copy
    vocoder = load_vocoder(None, mel).for_estimates().eval()
    spectrogram, size = MelSpectrogram(mel), SECONDS * mel.sample_rate

    manifest = Manifest(arguments.dev, mel.sample_rate)
    rows = np.flatnonzero(manifest.samples >= size)
    rows = rows[np.unique(manifest.speaker[rows], return_index=True)[1]][: arguments.count]
    read = (audio.read(manifest.path(row), mel.sample_rate)[:size] for row in rows)
    clean = torch.stack([torch.from_numpy(samples) for samples in read])
    wanted = spectrogram(clean)
    if arguments.output:
        write(arguments.output / "clean", clean, mel.sample_rate)
    for snr in (0.0, 5.0, 10.0):
        torch.manual_seed(0)
        half = len(clean) // 2
        heard = torch.cat(
            [
                corrupt(part, CorruptionConfig(**kind, reverberation=0.0, snr=(snr, snr)), sample_rate=mel.sample_rate)
                for part, kind in zip((clean[:half], clean[half:]), NOISES.values(), strict=True)
            ]
        )
        noisy = spectrogram(heard)
        for name, system in systems.items():
            error = (system(noisy) - wanted).abs().mean(dim=(1, 2))
            print(f"{snr:2.0f} dB  {name:20} mel L1 {error[:half].mean():.3f} noise, {error[half:].mean():.3f} voice")
        if arguments.output:
            write(arguments.output / f"{snr:.0f}dB-noisy", heard, mel.sample_rate)
            spoken = torch.stack([torch.from_numpy(speak(vocoder, m)) for m in denoiser.copy(noisy)])
            write(arguments.output / f"{snr:.0f}dB-denoised", spoken, mel.sample_rate)


def write(folder: Path, batch: torch.Tensor, sample_rate: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, samples in enumerate(batch):
        audio.write(
            folder / f"{i:02}.wav", (samples * min(1, 0.99 / samples.abs().max())).numpy(), sample_rate, force=True
        )


if __name__ == "__main__":
    main()
