"""Source, target and conversion side by side: a picture of mels and F0 contours, and figures that need no network."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from vcvae.convert.converter import Converter

PICTURE_SECONDS = 30.0  # of each recording that the picture shows


@torch.inference_mode()
def figures(converter: Converter, recordings: dict[str, np.ndarray]) -> list[tuple[str, str, str, str]]:
    """Name, length, level and mean F0 of each recording, samples (samples,) by name."""
    rows = []
    for name, samples in recordings.items():
        hertz = float(2 ** converter.encode(samples).f0.statistics().mean)
        level = 10 * np.log10(np.mean(np.square(samples, dtype=float)) + 1e-10)
        pitch = "no voice" if np.isnan(hertz) else f"{hertz:.0f} Hz"
        rows.append((name, f"{len(samples) / converter.mel_config.sample_rate:.1f} s", f"{level:.1f} dB", pitch))
    return rows


@torch.inference_mode()
def picture(converter: Converter, recordings: dict[str, np.ndarray]) -> Figure:
    """Mels, and F0 over them, under each other on one time axis."""
    rate, hop = converter.mel_config.sample_rate, converter.mel_config.hop
    figure = Figure(figsize=(10, 2.2 * len(recordings)), layout="constrained")
    axes = figure.subplots(len(recordings), sharex=True)
    for axis, (name, samples) in zip(axes, recordings.items(), strict=True):
        encoded = converter.encode(samples[: round(PICTURE_SECONDS * rate)])
        mel, f0 = encoded.mel[0].cpu().numpy(), encoded.f0
        seconds = mel.shape[1] * hop / rate
        axis.imshow(mel, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, mel.shape[0]))
        axis.set_ylabel(f"{name}\nmel band")
        contour = np.where(f0.voicing[0].cpu() > 0.5, 2 ** f0.log_f0[0].cpu().numpy(), np.nan)
        over = axis.twinx()
        over.plot(np.arange(len(contour)) * 2 * hop / rate, contour, color="cyan", linewidth=1.2)
        over.set_ylim(50, 500)
        over.set_ylabel("F0 (Hz)")
    axes[-1].set_xlabel("seconds")
    return figure
