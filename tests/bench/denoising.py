"""Denoising at 0, 5 and 10 dB: distance to the clean mel, and DNSMOS, of each auto-encoder and of doing nothing.

    python tests/bench/denoising.py DEV --denoiser MODEL [--plain MODEL] [--dnsmos] [-o OUT]    # DEV: prepared, unseen

Half of the recordings get coloured noise, the other half another speaker. DNSMOS (`pip install '.[eval]'`) rates the
former half: the noisy recordings, and the released vocoder's output for the models' mels. With -o these are written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vcvae import audio
from vcvae.augment.waveform import CorruptionConfig, corrupt
from vcvae.convert.copy_synthesis import synthesize
from vcvae.data.manifest import Manifest
from vcvae.evaluate.measures import NETWORK_SAMPLE_RATE
from vcvae.features.mel import MelSpectrogram
from vcvae.models import load_autoencoder
from vcvae.vocoder import load_vocoder

SECONDS = 6
NOISES = {"noise": {"noise": 1.0, "babble": 0.0}, "voice": {"noise": 0.0, "babble": 1.0}}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--denoiser", required=True)
    parser.add_argument("--plain")
    parser.add_argument("--dnsmos", action="store_true")
    parser.add_argument("--count", type=int, default=20, help="recordings, each of another speaker")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    denoiser = load_autoencoder(arguments.denoiser, denoising=True).eval()
    mel = denoiser.config.mel
    systems = {"nothing done": None}
    if arguments.plain:
        systems["plain"] = load_autoencoder(arguments.plain).eval()
    systems["denoised"] = denoiser
    rating = rater(mel.sample_rate) if arguments.dnsmos else None
    vocoder = load_vocoder(None, mel).for_predicted_mels().eval()
    spectrogram = MelSpectrogram(mel)

    clean = recordings(arguments.dev, arguments.count, mel.sample_rate)
    clean_mel, half = spectrogram(clean), len(clean) // 2
    columns = ["noise", "", "mel L1, noise", "mel L1, voice"]
    table = Table(*columns, *(["background", "speech", "overall"] if rating else []))
    if rating:
        table.add_row("", "clean", "0", "0", *rating(clean[:half]))
    if arguments.output:
        write(arguments.output / "clean", clean, mel.sample_rate)
    for snr in (0.0, 5.0, 10.0):
        torch.manual_seed(0)
        noisy = torch.cat(
            [
                corrupt(part, CorruptionConfig(**kind, reverberation=0.0, snr=(snr, snr)), sample_rate=mel.sample_rate)
                for part, kind in zip((clean[:half], clean[half:]), NOISES.values(), strict=True)
            ]
        )
        noisy_mel = spectrogram(noisy)
        for name, model in systems.items():
            estimate = model.reconstruct(noisy_mel) if model else noisy_mel
            error = (estimate - clean_mel).abs().mean(dim=(1, 2))
            row = [f"{snr:.0f} dB", name, f"{error[:half].mean():.3f}", f"{error[half:].mean():.3f}"]
            if rating or arguments.output:
                output = torch.stack([torch.from_numpy(synthesize(vocoder, m)) for m in estimate]) if model else noisy
            if rating:
                row += rating(output[:half])
            if arguments.output:
                write(arguments.output / f"{snr:.0f}dB-{name.replace(' ', '-')}", output, mel.sample_rate)
            table.add_row(*row)
    Console(width=120).print(table)


def recordings(dev: Path, count: int, sample_rate: int) -> torch.Tensor:
    """(count, samples): one of each speaker."""
    manifest, size = Manifest(dev, sample_rate), SECONDS * sample_rate
    rows = np.flatnonzero(manifest.samples >= size)
    rows = rows[np.unique(manifest.speaker[rows], return_index=True)[1]][:count]
    return torch.stack([torch.from_numpy(audio.read(manifest.path(row), sample_rate)[:size]) for row in rows])


def rater(sample_rate: int):
    """Samples (batch, samples) → means of DNSMOS: background, speech, overall."""
    from vcvae.evaluate.plugins import DNSMOS

    network = DNSMOS("")

    def rate(batch: torch.Tensor) -> list[str]:
        resampled = (audio.from_array(limited(samples).numpy(), sample_rate, NETWORK_SAMPLE_RATE) for samples in batch)
        figures = [network.rate(samples) for samples in resampled]
        return [f"{np.mean([f[key] for f in figures]):.2f}" for key in ("dnsmos_noise", "dnsmos_speech", "dnsmos")]

    return rate


def limited(samples: torch.Tensor) -> torch.Tensor:
    """Attenuated to full scale where it is louder, as a file requires."""
    return samples * min(1, 0.99 / samples.abs().max())


def write(folder: Path, batch: torch.Tensor, sample_rate: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, samples in enumerate(batch):
        audio.write(folder / f"{i:02}.wav", limited(samples).numpy(), sample_rate, force=True)


if __name__ == "__main__":
    main()
