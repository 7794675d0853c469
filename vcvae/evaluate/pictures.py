"""Pictures of conversions and of latents: PNG files drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vcvae.errors import VcvaeError, replacing
from vcvae.features.f0 import yin
from vcvae.features.mel import MelConfig, MelSpectrogram

MAX_LEGEND_SPEAKERS = 20  # above this, names and colours can no longer be distinguished


def require_matplotlib() -> None:
    """Raise a VcvaeError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise VcvaeError("pictures need matplotlib, which is not installed; pip install 'vcvae[eval]'.") from None


def plot_mels(path: str | Path, recordings: Mapping[str, NDArray[np.float32]], config: MelConfig) -> None:
    """Log-mels of recordings (samples,) side by side, each with its title, and with the F0 in cyan."""
    figure = _figure(5 * len(recordings), 3)
    axes = figure.subplots(1, len(recordings), sharey=True, squeeze=False)[0]
    spectrogram = MelSpectrogram(config)
    for axis, (title, samples) in zip(axes, recordings.items(), strict=True):
        waveform = torch.from_numpy(samples)[None]
        mel = spectrogram(waveform)[0]
        extent = (0, mel.shape[1] / config.frame_rate, 0, config.n_mels)
        axis.imshow(mel, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-9, vmax=1)
        f0 = yin(waveform, sample_rate=config.sample_rate, hop=config.hop)
        hertz = torch.where(f0.voicing > 0.5, 2**f0.log_f0, torch.nan)[0]
        f0_axis = axis.twinx()
        f0_axis.plot(torch.arange(len(hertz)) * 2 / config.frame_rate, hertz, color="cyan", linewidth=1.2)
        f0_axis.set(ylim=(50, 400), yticks=[] if axis is not axes[-1] else (100, 200, 300, 400))
        axis.set(title=title, xlabel="seconds")
    axes[0].set_ylabel("mel band")
    f0_axis.set_ylabel("F0, Hz")
    _save(figure, path)


def plot_speakers(
    path: str | Path,
    latents: Sequence[NDArray[np.float32]],
    speakers: Sequence[str],
    *,
    is_conversion: Sequence[bool] | None = None,
    seed: int = 0,
) -> None:
    """A map of speaker latents (speaker_latent,) in two dimensions, one colour per speaker.

    Recordings are dots; conversions, marked by `is_conversion`, are crosses in the colour of the target speaker.
    By t-SNE (van der Maaten & Hinton 2008) of cosine distances.
    """
    from matplotlib import colormaps

    crosses = np.zeros(len(latents), bool) if is_conversion is None else np.asarray(is_conversion, bool)
    names = sorted(set(speakers))
    speakers = np.asarray(speakers)
    points = _project_to_plane(np.stack(latents), seed)
    figure = _figure(9, 6)
    axis = figure.subplots()
    with_legend = len(names) <= MAX_LEGEND_SPEAKERS
    for number, name in enumerate(names):
        colour = colormaps["tab20"](number) if with_legend else colormaps["hsv"](number / len(names))
        label = name if with_legend else None
        for mask, marker in ((speakers == name) & ~crosses, "o"), ((speakers == name) & crosses, "x"):
            if mask.any():
                axis.scatter(*points[mask].T, color=colour, marker=marker, s=36, label=label)
                label = None  # one entry per speaker in the legend
    title = "speaker latents, one colour per speaker"
    axis.set(title=title + ("; crosses are conversions to them" if crosses.any() else ""), xticks=[], yticks=[])
    if with_legend:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    _save(figure, path)


def _project_to_plane(latents: NDArray[np.float32], seed: int) -> NDArray[np.floating]:
    """(points, dimensions) → (points, 2)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(latents) < 10:  # too few for t-SNE
        return PCA(2).fit_transform(latents)
    perplexity = min(30.0, (len(latents) - 1) / 3)
    return TSNE(2, perplexity=perplexity, metric="cosine", init="pca", random_state=seed).fit_transform(latents)


def _figure(width: float, height: float):
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and may open windows

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure, path: str | Path) -> None:
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=80)
