"""Throughput of mel front ends on one CPU thread, side by side. Run by hand: `python tests/bench/mel.py`."""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import time

import librosa
import numpy as np
import torch
import torchaudio

from vcvae.features.mel import MelConfig, MelSpectrogram

SECONDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    c = MelConfig()
    samples = 0.1 * torch.randn(1, SECONDS * c.sample_rate)
    array = samples[0].numpy()
    ours = MelSpectrogram(c)
    theirs = torchaudio.transforms.MelSpectrogram(
        c.sample_rate,
        c.n_fft,
        c.window,
        c.hop,
        c.f_min,
        c.f_max,
        n_mels=c.n_mels,
        power=1.0,
        norm="slaney",
        mel_scale="slaney",
    )

    def with_librosa() -> np.ndarray:
        mel = librosa.feature.melspectrogram(
            y=array,
            sr=c.sample_rate,
            n_fft=c.n_fft,
            hop_length=c.hop,
            n_mels=c.n_mels,
            fmax=c.f_max,
            power=1.0,
        )
        return np.log(np.maximum(mel, c.floor))

    contenders = {
        "vcvae": lambda: ours(samples),
        "torchaudio": lambda: theirs(samples).clamp(min=c.floor).log(),
        "librosa": with_librosa,
    }
    best = dict.fromkeys(contenders, float("inf"))
    with torch.inference_mode():
        for _ in range(rounds):  # taking turns, so that a busy moment of the machine hits all
            for name, compute in contenders.items():
                start = time.perf_counter()
                compute()
                best[name] = min(best[name], time.perf_counter() - start)
    print(f"ln-mel of {SECONDS} s on one thread, best of {rounds} rounds; the goal is 1000 × real time")
    print(f"{'front end':12}{'× real time':>12}{'vcvae is faster by':>20}")
    for name, seconds in best.items():
        print(f"{name:12}{SECONDS / seconds:12.0f}{seconds / best['vcvae']:20.2f}")


if __name__ == "__main__":
    main()
