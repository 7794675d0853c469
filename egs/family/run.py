"""The line of models side by side, on two minutes of speech: one table and one page of pictures, in some minutes.

python egs/family/run.py [--steps 400] [-o family.png]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import PCA

from vcvae import audio
from vcvae.data.prepare import Preparation
from vcvae.evaluate.bound import bound
from vcvae.mel import MelConfig, MelSpectrogram
from vcvae.models.autoencoder import VAE, AutoEncoder
from vcvae.models.gmm import GaussianMixture
from vcvae.training.corruption import CorruptionConfig, corrupt
from vcvae.training.loop import load_run, train
from vcvae.training.tasks import parse

HERE = Path(__file__).parent
VOICES = HERE.parent / "encoders" / "voices"
BOTTLENECKS = (2, 4, 8, 16, 32, 64)
COMPONENTS = (1, 2, 4, 8, 16, 32, 64, 128)
MEL = MelConfig()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="of each training")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "family.png")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        speech = Speech(Path(place))
        coders = {k: speech.train("autoencoder", arguments.steps, {"latent": k}) for k in BOTTLENECKS}
        denoiser = speech.train("denoising", arguments.steps, {"latent": 64})
        vae = speech.train("vae", arguments.steps, {"latent": 16})
    mixtures = {k: GaussianMixture.fit(speech.frames, components=k, floor=1e-2) for k in COMPONENTS}
    console = Console(width=120)
    distortion = rate_distortion(console, speech, coders)
    denoised = denoising(console, speech, denoiser, coders[64])
    densities = density(console, speech, mixtures, vae)
    draw(arguments.output, speech, distortion, densities, denoised, vae, mixtures[32])
    console.print(str(arguments.output))


class Speech:
    """Mels of what is learned from, and of what is kept apart: the last two recordings of every voice."""

    def __init__(self, place: Path) -> None:
        self.place, spectrogram = place, MelSpectrogram(MEL)
        learned, self.samples = [], []
        for voice in sorted(VOICES.iterdir()):
            files = audio.find(voice)
            for i, file in enumerate(files):
                samples = audio.read(file, MEL.sample_rate, trim=True)
                if i < len(files) - 2:
                    folder = place / "source" / voice.name
                    folder.mkdir(parents=True, exist_ok=True)
                    audio.write(folder / f"{file.stem}.wav", samples, MEL.sample_rate)
                    learned.append(samples)
                else:
                    self.samples.append(torch.from_numpy(samples)[None])
        list(Preparation("folder", place / "source", place / "ready", sample_rate=MEL.sample_rate, dev=0, test=0))
        self.mels = [spectrogram(samples) for samples in self.samples]
        self.learned = [spectrogram(torch.from_numpy(samples)[None]) for samples in learned]
        self.frames = torch.cat([mel[0].T for mel in self.learned])
        self.unseen = torch.cat([mel[0].T for mel in self.mels])

    def train(self, task: str, steps: int, model: dict) -> AutoEncoder:
        folder = self.place / f"{task}-{model['latent']}"
        values = {
            "task": task,
            "output": str(folder),
            "data": {"train": str(self.place / "ready" / "train"), "dev": str(self.place / "ready" / "train")},
            "steps": steps,
            "batch_speakers": 4,
            "segment_frames": 96,
            "workers": 0,
            "average": 0.98,
            "optimizer": {"learning_rate": 2e-3, "warmup": 50},
            "model": {"channels": 96, "blocks": 1, **model},
            "validate_every": 100_000,
        }
        if task == "vae":
            values["kl_warmup"] = steps // 4
        train(parse(values, where=task), Console(quiet=True))
        return load_run(folder)[1].released.eval()


@torch.inference_mode()
def rate_distortion(console: Console, speech: Speech, coders: dict[int, AutoEncoder]) -> np.ndarray:
    """(bottlenecks, 3): kbit/s at 8 bits a value, and the L1 of auto-encoder and of PCA."""
    # PCA of the same size: 4 frames, as many as a place of the code holds, as one vector.
    stacked = [torch.cat([f for m in mels for f in stack(m)]) for mels in (speech.learned, speech.mels)]
    rows = []
    for k, coder in coders.items():
        ours = torch.cat([(coder.copy(mel) - mel).abs().flatten() for mel in speech.mels]).mean().item()
        pca = PCA(k).fit(stacked[0].numpy())
        theirs = np.abs(pca.inverse_transform(pca.transform(stacked[1].numpy())) - stacked[1].numpy()).mean()
        rows.append([k * MEL.frame_rate / 4 * 8 / 1000, ours, theirs])
    table = Table("values per place", "kbit/s", "auto-encoder", "PCA", title="mel L1 of unseen recordings, nepers")
    for k, (rate, ours, theirs) in zip(coders, rows, strict=True):
        table.add_row(str(k), f"{rate:.2f}", f"{ours:.3f}", f"{theirs:.3f}")
    console.print(table)
    return np.array(rows)


def stack(mel: torch.Tensor) -> list[torch.Tensor]:
    """A mel (1, n_mels, frames) → [(places, 4 · n_mels)]."""
    frames = mel.shape[2] // 4 * 4
    return [mel[0, :, :frames].T.reshape(-1, 4 * mel.shape[1])]


@torch.inference_mode()
def denoising(console: Console, speech: Speech, denoiser: AutoEncoder, plain: AutoEncoder) -> list[torch.Tensor]:
    """Mels of one recording: noisy, denoised, and clean."""
    table = Table("noise", "nothing done", "plain auto-encoder", "denoising one", title="mel L1 to the clean recording")
    spectrogram = MelSpectrogram(MEL)
    for snr in (0.0, 5.0, 10.0):
        config = CorruptionConfig(noise=1.0, babble=0.0, reverberation=0.0, snr=(snr, snr))
        torch.manual_seed(0)
        noisy = [spectrogram(corrupt(x, config, sample_rate=MEL.sample_rate)) for x in speech.samples]
        rows = [
            torch.cat([(f(a) - b).abs().flatten() for a, b in zip(noisy, speech.mels, strict=True)]).mean().item()
            for f in (lambda x: x, plain.copy, denoiser.copy)
        ]
        table.add_row(f"{snr:.0f} dB", *(f"{row:.3f}" for row in rows))
        if snr == 5.0:
            shown = [noisy[0], denoiser.copy(noisy[0]), speech.mels[0]]
    console.print(table)
    return shown


@torch.inference_mode()
def density(
    console: Console, speech: Speech, mixtures: dict[int, GaussianMixture], vae: VAE
) -> dict[str, float | list[float]]:
    """ln p of unseen frames, nats a frame, of each mixture and of the VAE by its bound and by importance weighting."""
    of_mixtures = [mixture.log_probability(speech.unseen).mean().item() for mixture in mixtures.values()]
    torch.manual_seed(0)
    found = [bound(vae, mel, samples=256) for mel in speech.mels]
    frames = sum(mel.shape[2] for mel in speech.mels)
    elbo, weighted = (sum(getattr(f, name).item() for f in found) / frames for name in ("elbo", "log_likelihood"))
    table = Table("model", "ln p of unseen frames", title="nats a frame: higher is better")
    for k, value in zip(mixtures, of_mixtures, strict=True):
        table.add_row(f"mixture of {k}", f"{value:.1f}")
    table.add_row("VAE, at least (the bound)", f"{elbo:.1f}")
    table.add_row("VAE, at least (importance-weighted, 256 draws)", f"{weighted:.1f}")
    console.print(table)
    return {"mixtures": of_mixtures, "elbo": elbo, "weighted": weighted}


@torch.inference_mode()
def draw(output, speech, distortion, densities, denoised, vae, mixture) -> None:
    figure, axes = plt.subplots(3, 4, figsize=(15, 9), layout="constrained")
    axes[0, 0].plot(distortion[:, 0], distortion[:, 1], "o-", label="auto-encoder")
    axes[0, 0].plot(distortion[:, 0], distortion[:, 2], "s--", label="PCA")
    axes[0, 0].set(title="rate and distortion", xlabel="kbit/s", ylabel="mel L1", xscale="log")
    axes[0, 0].legend()
    axes[0, 1].plot(COMPONENTS, densities["mixtures"], "o-", label="mixtures")
    axes[0, 1].axhline(densities["weighted"], color="C1", label="VAE")
    axes[0, 1].set(title="ln p of unseen frames", xlabel="components", ylabel="nats a frame", xscale="log")
    axes[0, 1].legend()
    show(axes[0, 2], mixture.sample(100).T, "frames drawn from a mixture of 32")
    show(axes[0, 3], vae.sample(torch.Size([1, MEL.n_mels, 100]))[0], "a mel drawn from the VAE")
    for axis, mel, title in zip(axes[1], denoised, ("noisy, 5 dB", "denoised", "clean"), strict=False):
        show(axis, mel[0], title)
    show(axes[1, 3], vae.copy(speech.mels[0])[0], "the VAE's copy")
    a, b = (mel[..., : min(m.shape[2] for m in speech.mels)] for mel in (speech.mels[0], speech.mels[2]))
    for axis, share in zip(axes[2], (0.0, 0.33, 0.67, 1.0), strict=True):
        show(axis, vae.between(a, b, share)[0], f"between two utterances: {share:.2f}")
    figure.savefig(output, dpi=70)


def show(axis, mel: torch.Tensor, title: str) -> None:
    axis.imshow(mel[:, :300], origin="lower", aspect="auto", vmin=-9, vmax=0)
    axis.set(title=title, xticks=[], yticks=[])


if __name__ == "__main__":
    main()
