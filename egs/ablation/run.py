"""The effect of each means of disentanglement: the same training repeated, each time with one means more.

python egs/ablation/run.py TRAIN DEV [--steps 600] [--runs DIR] [-o ablation.png]     # folders of prepared speech
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vcvae import audio
from vcvae.config import read_yaml
from vcvae.data.manifest import Manifest
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.metrics.speakers import covariances, equal_error_rate, probe
from vcvae.models import load_model
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.training.loop import train
from vcvae.training.run_folder import load_run
from vcvae.training.tasks import parse

HERE = Path(__file__).parent
MAX_SPEAKERS = 40  # unseen speakers that are measured
UTTERANCES = 6  # of each speaker
SECONDS = 4  # of each utterance
MEASURES = {
    "reconstruction": "reconstruction, mel L1",
    "leakage": "speaker from content",
    "error": "equal error of speaker latents",
    "target": "conversion like target",
    "source": "conversion like source",
}

# One configuration for each variant; each is based on the one before and has one means more.
VARIANTS = {
    "instance normalization": "1-instance-normalization.yaml",
    "+ warped content input": "2-warped-content-input.yaml",
    "+ speaker losses": "3-speaker-losses.yaml",
    "+ back-translation": "4-back-translation.yaml",
    "+ discriminator": "5-discriminator.yaml",
    "+ voice augmentation": "6-voice-augmentation.yaml",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--steps", type=int, default=600, help="of each training")
    parser.add_argument(
        "--runs", type=Path, default=Path("exp/ablation"), help="folder of the trainings; finished ones are used again"
    )
    parser.add_argument("-o", "--output", type=Path, default=HERE / "ablation.png")
    arguments = parser.parse_args()
    released = load_model().eval()
    speakers = unseen_speakers(arguments.dev, released.config.mel)
    rows = {}
    print(f"{len(speakers)} unseen speakers: the chance level is {1 / len(speakers):.3f}", flush=True)
    for number, (name, file) in enumerate(VARIANTS.items()):
        values = read_yaml(HERE / file) | {
            "output": str(arguments.runs / str(number)),
            "data": {"train": str(arguments.train), "dev": str(arguments.dev)},
            "steps": arguments.steps,
            "optimizer": {"warmup": arguments.steps // 10},
            "kl_warmup": arguments.steps // 4,
            "conversions_from": arguments.steps // 4,
        }
        train(parse(values, context=name), Console(quiet=True))
        _, task = load_run(arguments.runs / str(number))
        rows[name] = measure(task.released.eval(), released, speakers)
        print(name, *(f"{key} {value:.3f}" for key, value in rows[name].items()), flush=True)
    table = Table("", *MEASURES.values(), title=f"{arguments.steps} steps each; unseen speakers")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[key]:.3f}" for key in MEASURES))
    Console(width=140).print(table)
    plot(arguments.output, rows)


@torch.inference_mode()
def measure(model: DisentanglingVAE, released: DisentanglingVAE, speakers: list[list[Tensor]]) -> dict[str, float]:
    """The figures of one variant; `released`, which is none of the variants, embeds the conversions.

    Of each speaker (mels (1, n_mels, frames) in `speakers`), the first utterance is reconstructed with the reference of
    the others, and converted to the speaker before.
    """
    voices = [Voice.join(model.voice(mel) for mel in mels[1:]).average() for mels in speakers]
    contents = [[model.content(mel).mean[0].numpy() for mel in mels] for mels in speakers]
    latents = torch.stack([torch.cat([model.speaker(mel) for mel in mels]) for mels in speakers])
    embeddings = [torch.cat([released.speaker(mel) for mel in mels[1:]]).mean(0, True) for mels in speakers]
    reconstruction, like_target, like_source = [], [], []
    for i, (source_mel, *_) in enumerate(speakers):
        reconstruction.append((model.convert(source_mel, voices[i]) - source_mel).abs().mean())
        converted = released.speaker(model.convert(source_mel, voices[i - 1]))
        similarity = torch.cosine_similarity(converted, torch.cat(embeddings))
        like_target.append(similarity[i - 1])
        like_source.append(similarity[i])
    means = torch.nn.functional.normalize(latents[:, 1:].mean(dim=1), dim=-1)
    scores = latents[:, 0] @ means.T
    same = torch.eye(len(speakers), dtype=torch.bool)
    names = [str(i) for i, mels in enumerate(speakers) for _ in mels]
    return {
        "reconstruction": torch.stack(reconstruction).mean().item(),
        "leakage": probe(covariances([content for row in contents for content in row]), names).accuracy,
        "error": equal_error_rate(scores[same], scores[~same]),
        "target": torch.stack(like_target).mean().item(),
        "source": torch.stack(like_source).mean().item(),
    }


def unseen_speakers(folder: Path, mel: MelConfig) -> list[list[Tensor]]:
    """Mels (1, n_mels, frames) of `UTTERANCES` of each speaker, `SECONDS` long."""
    spectrogram = MelSpectrogram(mel)
    manifest = Manifest(folder, mel.sample_rate)
    size = SECONDS * mel.sample_rate
    speakers = []
    for number in range(len(manifest.speakers)):
        rows = np.flatnonzero((manifest.speaker == number) & (manifest.samples >= size))[:UTTERANCES]
        if len(rows) == UTTERANCES and len(speakers) < MAX_SPEAKERS:
            read = (audio.read(manifest.path(row), mel.sample_rate)[:size] for row in rows)
            speakers.append([spectrogram(torch.from_numpy(samples)[None]) for samples in read])
    return speakers


def plot(output: Path, rows: dict[str, dict[str, float]]) -> None:
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(15, 3.2), layout="constrained", sharey=True)
    for axis, (key, title) in zip(axes, MEASURES.items(), strict=True):
        values = [row[key] for row in rows.values()]
        axis.barh(list(rows), values, color="0.6")
        axis.bar_label(axis.containers[0], fmt="%.2f", padding=2)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set(title=title, xlim=(1.6 * min(0, *values), 1.25 * max(values)))
    axes[0].invert_yaxis()
    figure.savefig(output, dpi=70)


if __name__ == "__main__":
    main()
