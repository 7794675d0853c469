"""Distances of copy synthesis from the recordings, for several vocoders.

    python tests/bench/copy_synthesis.py FOLDER [--vocoder source-filter griffin-lim hifigan:PATH …] [--keep DIR]

spectrum: mean |difference| of log spectra at four resolutions (natural-log units); mel: mean |difference| of ln-mels;
F0: median |difference| of F0 where both are voiced, and the share of those frames that differ by more than half
a semitone; V/UV: share of the frames that are voiced in one only. `--keep` writes the copies, for other measures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import soundfile
import torch

from vcvae import audio
from vcvae.features.f0 import yin
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.training.spectral import MultiResolutionSpectrum
from vcvae.vocoder import load_vocoder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vocoder", nargs="+", default=["source-filter", "griffin-lim"])
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    mel = MelConfig()
    analysis, spectrum = MelSpectrogram(mel), MultiResolutionSpectrum(mel.sample_rate)
    files = audio.find(arguments.folder)
    print(f"{len(files)} recordings\n")
    print("| vocoder | spectrum | mel | F0, cents | F0 off | V/UV |\n|---|---|---|---|---|---|")
    for name in arguments.vocoder:
        vocoder, rows = load_vocoder(name, mel).eval(), []
        for file in files:
            samples = audio.read(file, mel.sample_rate)
            natural = torch.from_numpy(samples[: len(samples) // mel.hop * mel.hop])[None]
            with torch.inference_mode():
                natural_mel = analysis(natural)
                copy = vocoder(natural_mel)
                a = yin(natural, sample_rate=mel.sample_rate, hop=mel.hop)
                b = yin(copy, sample_rate=mel.sample_rate, hop=mel.hop)
                cents = 1200 * (a.log_f0 - b.log_f0)[(a.voicing * b.voicing) > 0.5].abs()
                full = torch.tensor([mel.sample_rate / 2])
                rows.append(
                    (
                        spectrum.distance(spectrum(natural), spectrum(copy), full),
                        (analysis(copy) - natural_mel).abs().mean(),
                        cents.median(),
                        (cents > 50).float().mean(),
                        (a.voicing != b.voicing).float().mean(),
                    )
                )
            if arguments.keep:
                place = arguments.keep / name.replace("/", "-") / file.relative_to(arguments.folder).with_suffix(".wav")
                place.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(place, copy[0].numpy(), mel.sample_rate)
        *means, off, voicing = torch.tensor(rows).nanmean(dim=0).tolist()
        figures = [f"{means[0]:.3f}", f"{means[1]:.3f}", f"{means[2]:.1f}", f"{off:.1%}", f"{voicing:.1%}"]
        print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
