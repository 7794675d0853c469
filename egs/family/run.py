"""The classic models compared: three tables, a page of pictures, and two recordings.

python egs/family/run.py                                              # on the two minutes of speech beside it
python egs/family/run.py TRAIN DEV --steps 2000 --runs exp/line -o corpus.png     # on folders of prepared speech
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from vcvae import audio
from vcvae.augment.waveform import CorruptionConfig, corrupt
from vcvae.convert.copy_synthesis import synthesize
from vcvae.data.manifest import Manifest
from vcvae.data.prepare import prepare
from vcvae.features.mel import MelConfig, MelSpectrogram, valid_band_mask
from vcvae.models.classic.autoencoder import VAE, AutoEncoder
from vcvae.models.classic.elbo import bound
from vcvae.models.classic.gmm import GaussianMixture
from vcvae.training.loop import train
from vcvae.training.run_folder import load_run
from vcvae.training.tasks import parse
from vcvae.vocoder import load_vocoder

HERE = Path(__file__).parent
VOICES = HERE.parent / "encoders" / "voices"
BOTTLENECKS = (2, 4, 8, 16, 32, 64)
COMPONENTS = tuple(2**n for n in range(10))
MAX_FULL = 64  # components with full covariances, which take long; above it only diagonal ones are fitted
PCA_SECONDS = 1200  # of training speech, at most, for principal components
UNSEEN_SECONDS = 240  # of unseen speech, at most, on which all are measured
MAX_FRAMES = 26_000  # drawn from these, to which mixtures are fitted: five minutes
MEL = MelConfig()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="?", type=Path, help="prepared speech")
    parser.add_argument("dev", nargs="?", type=Path, help="prepared speech of other speakers")
    parser.add_argument("--steps", type=int, default=900, help="of each training")
    parser.add_argument(
        "--runs", type=Path, help="folder of the trainings, kept and used again; by default they are not kept"
    )
    parser.add_argument("-o", "--output", type=Path, default=HERE / "family.png")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        if not arguments.dev:
            arguments.train, arguments.dev = split(Path(place))
        speech = Speech(arguments.train, arguments.dev, arguments.runs or Path(place))
        coders = {k: speech.learn("autoencoder", arguments.steps, {"latent": k}) for k in BOTTLENECKS}
        denoiser = speech.learn("denoising", arguments.steps, {"latent": 64})
        vae = speech.learn("vae", arguments.steps, {"latent": 64})
    console = Console(width=120)
    distortion = rate_distortion(console, speech, coders)
    denoised = denoising(console, speech, denoiser, coders[64])
    warnings.simplefilter("ignore", ConvergenceWarning)  # thirty iterations are enough here
    mixtures = {
        kind: {
            k: GaussianMixture.fit(speech.frames, components=k, covariance=kind, floor=1e-2, iterations=30)
            for k in sizes
        }
        for kind, sizes in (("full", [k for k in COMPONENTS if k <= MAX_FULL]), ("diagonal", COMPONENTS))
    }
    densities = density(console, speech, mixtures, vae)
    draw(arguments.output, speech, distortion, densities, denoised, vae, mixtures["full"][32])
    sound(arguments.output, speech, vae)
    console.print(str(arguments.output))


def split(place: Path) -> tuple[Path, Path]:
    """The recordings beside this script, prepared: the last two of every voice are held out."""
    for voice in sorted(VOICES.iterdir()):
        for part, files in (("train", audio.find(voice)[:-2]), ("dev", audio.find(voice)[-2:])):
            for file in files:
                folder = place / "source" / part / voice.name
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, folder)
    for part in ("train", "dev"):
        prepare("folder", place / "source" / part, place / part, sample_rate=MEL.sample_rate, dev=0, test=0)
    return place / "train" / "train", place / "dev" / "train"


class Speech:
    """The training speech and the held-out speech; and the trainings."""

    def __init__(self, train: Path, dev: Path, runs: Path) -> None:
        self.folders, self.runs, spectrogram = {"train": str(train), "dev": str(dev)}, runs, MelSpectrogram(MEL)
        self.samples = read(dev, UNSEEN_SECONDS)
        self.mels = [spectrogram(samples) for samples in self.samples]
        self.learned = [spectrogram(samples) for samples in read(train, PCA_SECONDS)]
        frames = torch.cat([mel[0].T for mel in self.learned])
        self.frames = frames[torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))[:MAX_FRAMES]]
        self.unseen = torch.cat([mel[0].T for mel in self.mels])

    def learn(self, task: str, steps: int, model: dict) -> AutoEncoder:
        folder = self.runs / f"{task}-{model['latent']}"
        values = {
            "task": task,
            "output": str(folder),
            "data": self.folders,
            "steps": steps,
            "batch_speakers": 4,
            "segments": 4,
            "segment_frames": 96,
            "ema_decay": 0.98,
            "optimizer": {"learning_rate": 2e-3, "warmup": 50},
            "model": {"channels": 128, "blocks": 1, **model},
            "validate_every": 100_000,
        }
        if task == "vae":
            values["kl_warmup"] = steps // 4
        train(parse(values, context=task), Console(quiet=True))
        return load_run(folder)[1].released.eval()


def read(folder: Path, seconds: float) -> list[torch.Tensor]:
    """Samples (1, samples) of prepared utterances, from all over the folder, until there are so many seconds.

    Only those that fill all bands: empty bands are not trained, and are easy to predict.
    """
    manifest, chosen, total = Manifest(folder, MEL.sample_rate), [], 0.0
    valid_bands = valid_band_mask(torch.from_numpy(manifest.bandwidth), MEL).all(dim=1)
    for row in torch.randperm(len(manifest.samples), generator=torch.Generator().manual_seed(0)).tolist():
        if valid_bands[row] and total < seconds:
            chosen.append(torch.from_numpy(audio.read(manifest.path(row), MEL.sample_rate))[None])
            total += manifest.samples[row] / MEL.sample_rate
    return chosen


@torch.inference_mode()
def rate_distortion(console: Console, speech: Speech, coders: dict[int, AutoEncoder]) -> np.ndarray:
    """(bottlenecks, 3): kbit/s at 8 bits a value, and the L1 of auto-encoder and of PCA."""
    # PCA of the same size: 4 frames, as in a position of the code, as one vector.
    stacked = [torch.cat([f for m in mels for f in stack(m)]) for mels in (speech.learned, speech.mels)]
    rows = []
    for k, coder in coders.items():
        autoencoder_l1 = (
            torch.cat([(coder.reconstruct(mel) - mel).abs().flatten() for mel in speech.mels]).mean().item()
        )
        pca = PCA(k).fit(stacked[0].numpy())
        pca_l1 = np.abs(pca.inverse_transform(pca.transform(stacked[1].numpy())) - stacked[1].numpy()).mean()
        rows.append([k * MEL.frame_rate / 4 * 8 / 1000, autoencoder_l1, pca_l1])
    table = Table("values per position", "kbit/s", "auto-encoder", "PCA", title="mel L1 of unseen recordings, nepers")
    for k, (rate, autoencoder_l1, pca_l1) in zip(coders, rows, strict=True):
        table.add_row(str(k), f"{rate:.2f}", f"{autoencoder_l1:.3f}", f"{pca_l1:.3f}")
    console.print(table)
    return np.array(rows)


def stack(mel: torch.Tensor) -> list[torch.Tensor]:
    """A mel (1, n_mels, frames) → [(positions, 4 · n_mels)]."""
    frames = mel.shape[2] // 4 * 4
    return [mel[0, :, :frames].T.reshape(-1, 4 * mel.shape[1])]


@torch.inference_mode()
def denoising(console: Console, speech: Speech, denoiser: AutoEncoder, plain: AutoEncoder) -> list[torch.Tensor]:
    """Mels of one recording: noisy, denoised, and clean."""
    table = Table(
        "noise", "unprocessed", "plain auto-encoder", "denoising auto-encoder", title="mel L1 to the clean recording"
    )
    spectrogram = MelSpectrogram(MEL)
    for snr in (0.0, 5.0, 10.0):
        config = CorruptionConfig(noise=1.0, babble=0.0, reverberation=0.0, snr=(snr, snr))
        torch.manual_seed(0)
        noisy = [spectrogram(corrupt(x, config, sample_rate=MEL.sample_rate)) for x in speech.samples]
        rows = [
            torch.cat([(f(a) - b).abs().flatten() for a, b in zip(noisy, speech.mels, strict=True)]).mean().item()
            for f in (lambda x: x, plain.reconstruct, denoiser.reconstruct)
        ]
        table.add_row(f"{snr:.0f} dB", *(f"{row:.3f}" for row in rows))
        if snr == 5.0:
            shown = [noisy[0], denoiser.reconstruct(noisy[0]), speech.mels[0]]
    console.print(table)
    return shown


@torch.inference_mode()
def density(console: Console, speech: Speech, mixtures: dict[str, dict[int, GaussianMixture]], vae: VAE) -> dict:
    """ln p of unseen frames, nats per frame, of each mixture, and of the VAE by its bound and importance-weighted."""
    of_mixtures = {
        kind: [mixture.log_probability(speech.unseen).mean().item() for mixture in sizes.values()]
        for kind, sizes in mixtures.items()
    }
    torch.manual_seed(0)
    bounds = [bound(vae, mel, samples=256) for mel in speech.mels]
    frames = sum(mel.shape[2] for mel in speech.mels)
    elbo = sum(b.elbo.item() for b in bounds) / frames
    weighted = sum(b.log_likelihood.item() for b in bounds) / frames
    table = Table("model", *of_mixtures, title="ln p of unseen frames, nats per frame: higher is better")
    for i, k in enumerate(COMPONENTS):
        table.add_row(f"mixture of {k}", *(f"{row[i]:.1f}" if i < len(row) else "–" for row in of_mixtures.values()))
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
    for kind, row in densities["mixtures"].items():
        axes[0, 1].plot(COMPONENTS[: len(row)], row, "o-", label=f"mixtures, {kind}")
    axes[0, 1].axhline(densities["weighted"], color="C2", label="VAE")
    axes[0, 1].set(title="ln p of unseen frames", xlabel="components", ylabel="nats per frame", xscale="log")
    axes[0, 1].legend()
    show(axes[0, 2], mixture.sample(100).T, "frames drawn from a mixture of 32")
    show(axes[0, 3], vae.sample(torch.Size([1, MEL.n_mels, 100]))[0], "a mel drawn from the VAE")
    for axis, mel, title in zip(axes[1], denoised, ("noisy, 5 dB", "denoised", "clean"), strict=False):
        show(axis, mel[0], title)
    show(axes[1, 3], vae.reconstruct(speech.mels[0])[0], "reconstructed by the VAE")
    a, b = two(speech)
    for axis, share in zip(axes[2], (0.0, 0.33, 0.67, 1.0), strict=True):
        show(axis, vae.interpolate(a, b, share)[0], f"between two utterances: {share:.2f}")
    figure.savefig(output, dpi=70)
    Image.open(output).convert("RGB").quantize(64).save(output, optimize=True)  # a third of the size


def two(speech: Speech) -> list[torch.Tensor]:
    """Two unseen utterances, as long as the shorter."""
    frames = min(speech.mels[0].shape[2], speech.mels[2].shape[2])
    return [speech.mels[i][..., :frames] for i in (0, 2)]


@torch.inference_mode()
def sound(output: Path, speech: Speech, vae: VAE) -> None:
    """Synthesize a sample of the VAE, and two utterances with interpolations: two files beside the picture."""
    vocoder = load_vocoder(None, MEL).for_predicted_mels().eval()
    torch.manual_seed(0)
    between = [vae.interpolate(*two(speech), share)[0] for share in (0.0, 0.33, 0.67, 1.0)]
    for name, mels in (("drawn", [vae.sample(torch.Size([1, MEL.n_mels, 258]))[0]]), ("between", between)):
        samples = np.concatenate([synthesize(vocoder, mel) for mel in mels])
        file = output.with_name(f"{output.stem}-{name}.flac")
        audio.write(file, samples * min(1, 0.9 / np.abs(samples).max()), MEL.sample_rate, force=True)


def show(axis, mel: torch.Tensor, title: str) -> None:
    axis.imshow(mel[:, :300], origin="lower", aspect="auto", vmin=-9, vmax=0)
    axis.set(title=title, xticks=[], yticks=[])


if __name__ == "__main__":
    main()
