"""What each means of disentanglement buys: the same training, again and again, with one means more each time.

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
SPEAKERS, UTTERANCES, SECONDS = 40, 6, 4  # at most; of each speaker; of each utterance
MEASURES = {
    "rebuilt": "mel L1 of rebuilding",
    "leakage": "speaker from content",
    "error": "equal error of speaker latents",
    "target": "conversion like target",
    "source": "conversion like source",
}

NONE: dict = {
    "content_input": {"warp": 0.0, "noise": 0.0},
    "weights": {"contrastive": 0.0, "aam_softmax": 0.0, "adversarial": 0.0, "features": 0.0},
    "back_translation": 0.0,
    "voice_augmentation": {"share": 0.0},
}
CONTRAST = {"contrastive": 0.1, "aam_softmax": 0.03}
WARPED = {"content_input": {"warp": 0.25, "noise": 0.3}}
# Each has what those before it have.
VARIANTS: dict[str, dict] = {
    "instance normalization": NONE,
    "+ warped content input": NONE | WARPED,
    "+ speakers told apart": NONE | WARPED | {"weights": NONE["weights"] | CONTRAST},
    "+ words heard from conversions": NONE | WARPED | {"weights": NONE["weights"] | CONTRAST, "back_translation": 0.5},
    "+ a losses": {"voice_augmentation": {"share": 0.0}},
    "+ voices that nobody has": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--steps", type=int, default=600, help="of each training")
    parser.add_argument(
        "--runs", type=Path, default=Path("exp/ablation"), help="folder of the trainings, to go on from"
    )
    parser.add_argument("-o", "--output", type=Path, default=HERE / "ablation.png")
    arguments = parser.parse_args()
    judge = load_model().eval()
    speakers, rows = unseen(arguments.dev, judge.config.mel), {}
    print(f"{len(speakers)} unseen speakers: guessing names {1 / len(speakers):.3f} of them", flush=True)
    for number, (name, changes) in enumerate(VARIANTS.items()):
        values = {
            "task": "conversion",
            "output": str(arguments.runs / str(number)),
            "data": {"train": str(arguments.train), "dev": str(arguments.dev)},
            "steps": arguments.steps,
            "batch_speakers": 4,
            "optimizer": {"warmup": arguments.steps // 10},
            "kl_warmup": arguments.steps // 4,
            "conversions_from": arguments.steps // 4,
            "validate_every": 10**6,
            "average": 0.99,
        } | changes
        train(parse(values, context=name), Console(quiet=True))
        rows[name] = measure(load_run(arguments.runs / str(number))[1].released.eval(), judge, speakers)
        print(name, *(f"{key} {value:.3f}" for key, value in rows[name].items()), flush=True)
    table = Table("", *MEASURES.values(), title=f"{arguments.steps} steps each; unseen speakers")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[key]:.3f}" for key in MEASURES))
    Console(width=140).print(table)
    draw(arguments.output, rows)


@torch.inference_mode()
def measure(model: DisentanglingVAE, judge: DisentanglingVAE, speakers: list[list[Tensor]]) -> dict[str, float]:
    """The figures of one variant. `judge`, which is none of those compared, hears what conversions are like.

    Of each speaker (mels (1, n_mels, frames) in `speakers`), the first utterance is rebuilt with the voice that the
    others show, and converted to the speaker before.
    """
    voices = [Voice.join(model.voice(mel) for mel in mels[1:]).average() for mels in speakers]
    contents = [[model.content(mel).mean[0].numpy() for mel in mels] for mels in speakers]
    latents = torch.stack([torch.cat([model.speaker(mel) for mel in mels]) for mels in speakers])
    known_by_judge = torch.cat([torch.cat([judge.speaker(m) for m in ms[1:]]).mean(0, True) for ms in speakers])
    rebuilt, like_target, like_source = [], [], []
    for i, (source, *_) in enumerate(speakers):
        rebuilt.append((model.convert(source, voices[i]) - source).abs().mean())
        heard = judge.speaker(model.convert(source, voices[i - 1]))
        similarity = torch.cosine_similarity(heard, known_by_judge)
        like_target.append(similarity[i - 1])
        like_source.append(similarity[i])
    enrolled = torch.nn.functional.normalize(latents[:, 1:].mean(dim=1), dim=-1)
    scores = latents[:, 0] @ enrolled.T
    same = torch.eye(len(speakers), dtype=torch.bool)
    names = [str(i) for i, mels in enumerate(speakers) for _ in mels]
    return {
        "rebuilt": torch.stack(rebuilt).mean().item(),
        "leakage": probe(covariances([content for row in contents for content in row]), names).accuracy,
        "error": equal_error_rate(scores[same], scores[~same]),
        "target": torch.stack(like_target).mean().item(),
        "source": torch.stack(like_source).mean().item(),
    }


def unseen(folder: Path, mel: MelConfig) -> list[list[Tensor]]:
    """Mels (1, n_mels, frames) of some seconds of some utterances of each speaker, at the level that models hear."""
    spectrogram, manifest, size = MelSpectrogram(mel), Manifest(folder, mel.sample_rate), SECONDS * mel.sample_rate
    speakers = []
    for number in range(len(manifest.speakers)):
        rows = np.flatnonzero((manifest.speaker == number) & (manifest.samples >= size))[:UTTERANCES]
        if len(rows) == UTTERANCES and len(speakers) < SPEAKERS:
            read = (audio.read(manifest.path(row), mel.sample_rate)[:size] for row in rows)
            speakers.append([spectrogram(torch.from_numpy(samples)[None]) for samples in read])
    return speakers


def draw(output: Path, rows: dict[str, dict[str, float]]) -> None:
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
