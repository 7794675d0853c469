"""Mel → waveform: seconds of computing per second of speech, side by side, and the memory of ten minutes.

    python tests/bench/vocoder.py [--seconds 1 10 60] [--threads 1 2]

Griffin-Lim is torchaudio's with 32 iterations, behind torchaudio's own inversion of the mel; HiFi-GAN V1, V2 and V3
have their published sizes and random weights, which cost what trained ones cost. All take the same mel in one process,
in turn, and the median of the rounds counts; ratios are to source-filter. Memory is read from Linux's /proc.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torchaudio
from torch import Tensor, nn

from vcvae.features.mel import MelConfig
from vcvae.vocoder import HiFiGAN, HiFiGANConfig, SourceFilterVocoder

SIZES = {
    "HiFi-GAN V1": HiFiGANConfig(),
    "HiFi-GAN V2": HiFiGANConfig(upsample_initial_channel=128),
    "HiFi-GAN V3": HiFiGANConfig(
        resblock="2",
        upsample_rates=(8, 8, 4),
        upsample_kernel_sizes=(16, 16, 8),
        upsample_initial_channel=256,
        resblock_kernel_sizes=(3, 5, 7),
        resblock_dilation_sizes=((1, 2), (2, 6), (3, 12)),
    ),
}


class TorchaudioGriffinLim(nn.Module):
    """torchaudio's own two steps from a mel to samples."""

    def __init__(self, mel: MelConfig) -> None:
        super().__init__()
        bins = mel.n_fft // 2 + 1
        self.invert = torchaudio.transforms.InverseMelScale(
            bins, mel.n_mels, mel.sample_rate, mel.f_min, mel.f_max, norm="slaney", mel_scale="slaney"
        )
        self.find_phases = torchaudio.transforms.GriffinLim(mel.n_fft, n_iter=32, hop_length=mel.hop, power=1.0)

    def forward(self, mel: Tensor) -> Tensor:
        return self.find_phases(self.invert(mel.exp()))


def memory() -> float:
    """Peak memory of this process so far, MB. (The figure of getrusage is inherited from the parent.)"""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def measure_memory(minutes: float) -> None:
    vocoder, rate = SourceFilterVocoder().eval(), MelConfig().frame_rate
    vocoder(torch.randn(1, 80, 100) - 5)
    before = memory()
    vocoder(torch.randn(1, 80, round(60 * minutes * rate)) - 5)
    print(f"{minutes:g} min in one call: {memory():.0f} MB, {memory() - before:.0f} of them for the call")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=float, help="minutes: measure only the memory")
    arguments = parser.parse_args()
    if arguments.memory:
        return measure_memory(arguments.memory)
    mel = MelConfig()
    source_filter = SourceFilterVocoder()
    vocoders = {
        "source-filter": source_filter,
        "… for predicted mels": source_filter.for_predicted_mels(),
        "Griffin-Lim": TorchaudioGriffinLim(mel),
    }
    vocoders |= {name: HiFiGAN(config) for name, config in SIZES.items()}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for seconds in arguments.seconds:
            spectrum = torch.randn(1, mel.n_mels, round(seconds * mel.frame_rate)) - 5
            taken = {name: [] for name in vocoders}
            with torch.inference_mode():
                for vocoder in vocoders.values():
                    vocoder.eval()(spectrum[:, :, :80])
                for _ in range(arguments.rounds):
                    for name, vocoder in vocoders.items():
                        began = time.perf_counter()
                        vocoder(spectrum)
                        taken[name].append((time.perf_counter() - began) / seconds)
            medians = {name: statistics.median(values) for name, values in taken.items()}
            base = medians["source-filter"]
            figures = [f"{name} {value:.4f} ({value / base:.1f} ×)" for name, value in medians.items()]
            print(f"{threads} threads, {seconds:g} s: {'  '.join(figures)}", flush=True)
    for minutes in (1, 10):  # each in a process of its own, as the peak of a process never falls
        subprocess.run([sys.executable, __file__, "--memory", str(minutes)], check=True)


if __name__ == "__main__":
    main()
