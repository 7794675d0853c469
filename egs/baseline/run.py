"""Train AdaIN-VC, the baseline of the family, on prepared speech, and convert the cases of an evaluation by it.

    python egs/baseline/run.py train egs/baseline/adain_vc.yaml
    python egs/baseline/run.py convert exp/adain_vc --cases cases.tsv [--root DIR] -o exp/adain_vc/converted
    python egs/baseline/run.py convert exp/adain_vc --corpus exp/prepared/test -o exp/adain_vc/converted

The training goes on from its last checkpoint. Conversions are made with this project's mel and vocoder, and are
measured by `vcvae evaluate … --converted FOLDER`, with the same cases.
"""

from __future__ import annotations

import argparse
import math
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root of the repository, for egs

from egs.baseline.adain_vc import REDUCTION, AdaINVC
from vcvae import audio
from vcvae.config import Config, override, read_yaml
from vcvae.data.load import load
from vcvae.data.manifest import Manifest
from vcvae.errors import VcvaeError, check_folder, disk_errors, replacing
from vcvae.evaluate import draw_cases, read_cases
from vcvae.features.mel import MEL_MEAN, MEL_STD, MelConfig, MelSpectrogram, level, standardize
from vcvae.models.hub import read_saved
from vcvae.training.batches import ResumableBatchSampler, batches
from vcvae.training.config import Speeds
from vcvae.training.progress import format_figures
from vcvae.training.segments import segment_major
from vcvae.vocoder import load_vocoder

CHECKPOINT = "checkpoint.pt"


class BaselineConfig(Config):
    """A training of AdaIN-VC. Batches are those of recipes/folder/conversion.yaml."""

    output: str = Field(description="folder of the run; the same command resumes it")
    train: str = Field(description="prepared folder of the training speakers")
    steps: int = Field(4800, gt=0, le=10_000_000, description="optimizer steps")
    batch_speakers: int = Field(8, gt=1, le=4096, description="speakers per batch")
    segments: int = Field(4, gt=0, le=64, description="segments per speaker in a batch")
    segment_frames: int = Field(128, gt=15, le=8192, description="mel frames per segment; 128 are 1.5 s")
    speeds: Speeds = Field((0.89, 1.0, 1.125), description="playback speeds")
    learning_rate: float = Field(5e-4, gt=0, le=1, description="of Adam")
    reconstruction: float = Field(10.0, ge=0, le=1e6, description="weight of the L1 distance of standardized mels")
    kl: float = Field(0.01, ge=0, le=1e6, description="weight of the content's KL divergence")
    clip: float = Field(5.0, gt=0, le=1e9, description="largest norm of the gradient")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of weights, data order and noise")
    workers: int = Field(1, ge=0, le=64, description="processes that read audio")
    log_every: int = Field(50, gt=0, le=10_000_000, description="steps between log lines and checkpoints")


def train(config: BaselineConfig, device: torch.device) -> AdaINVC:
    """Train, or resume the run in the output folder.

    Raises:
        VcvaeError: the data are not prepared, or the folder cannot be written.
    """
    folder, mel = Path(config.output), MelConfig()
    check_folder(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    data = load(
        config.train,
        batch=config.batch_speakers,
        segment=config.segment_frames * mel.hop,
        count=config.segments,
        sample_rate=mel.sample_rate,
        seed=config.seed,
        speeds=config.speeds,
    )
    torch.manual_seed(config.seed)
    model = AdaINVC(mel.n_mels).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, weight_decay=1e-4, amsgrad=True)
    first = 0
    if (folder / CHECKPOINT).exists():
        saved = read_saved(folder / CHECKPOINT)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    spectrogram = MelSpectrogram(mel).to(device)
    sampler = ResumableBatchSampler(config.batch_speakers, first * config.batch_speakers)
    with closing(batches(data, sampler, workers=config.workers, device=device)) as stream:
        for step in range(first, config.steps):
            torch.manual_seed(config.seed + step)
            x = normalized(spectrogram(segment_major(next(stream)["samples"])))
            decoded, mean, log_variance = model(x, x)
            reconstruction = (decoded - x).abs().mean()
            kl = (log_variance.exp() - 1 - log_variance + mean.square()).mean() / 2
            optimizer.zero_grad()
            (config.reconstruction * reconstruction + config.kl * kl).backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
                figures = {"reconstruction": reconstruction.item(), "kl": kl.item()}
                print(f"{format_figures(step + 1, figures)}  of {config.steps}", flush=True)
                save(folder, model, optimizer, step + 1)
    return model.eval()


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the checkpoint, completely or not at all."""
    with replacing(folder / CHECKPOINT) as file:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, file)


def normalized(mel: Tensor) -> Tensor:
    """Ln-mels (batch, n_mels, frames) at level zero, standardized."""
    return standardize(mel - level(mel))


@torch.inference_mode()
def convert(model: AdaINVC, source: Tensor, targets: list[Tensor]) -> Tensor:
    """Ln-mels (1, n_mels, frames) of a source and of a target's utterances → the conversion, at the source's level."""
    frames = source.shape[2]
    target = torch.cat(targets, dim=2)
    padded = [F.pad(normalized(mel), (0, -mel.shape[2] % REDUCTION), mode="replicate") for mel in (source, target)]
    converted = model(*padded)[0][..., :frames] * MEL_STD + MEL_MEAN
    return converted - level(converted) + level(source)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("config", type=Path)
    training.add_argument("--set", action="append", default=[], help="key=value, which replaces the file's")
    conversion = commands.add_parser("convert")
    conversion.add_argument("run", type=Path, help="output folder of the training")
    conversion.add_argument("--cases", type=Path, help="a table, as for vcvae evaluate")
    conversion.add_argument("--root", type=Path)
    conversion.add_argument("--corpus", type=Path, help="a prepared folder, from which cases are drawn as by evaluate")
    conversion.add_argument("--count", type=int, default=24)
    conversion.add_argument("--seed", type=int, default=0)
    conversion.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if options.command == "train":
            values = override(read_yaml(options.config), options.set)
            train(BaselineConfig.parse(values, context=str(options.config)), device)
        else:
            convert_cases(options)
    except VcvaeError as error:
        sys.exit(f"run.py: {error}")


def convert_cases(options: argparse.Namespace) -> None:
    """Write the conversion of each case, named by its id.

    Raises:
        VcvaeError: no checkpoint, no cases, or a recording that cannot be used.
    """
    mel = MelConfig()
    if not (options.run / CHECKPOINT).is_file():
        raise VcvaeError(f"{options.run}: no {CHECKPOINT} here; give the output folder of a training.")
    if not (options.cases or options.corpus):
        raise VcvaeError("convert: give a table with --cases, or a prepared folder with --corpus.")
    if options.cases:
        cases = read_cases(options.cases, root=options.root)
    else:
        cases = draw_cases(Manifest(options.corpus, mel.sample_rate).utterances(), options.count, seed=options.seed)
    model = AdaINVC(mel.n_mels).eval()
    model.load_state_dict(read_saved(options.run / CHECKPOINT)["model"])
    vocoder = load_vocoder(None, mel).for_predicted_mels().eval()
    spectrogram = MelSpectrogram(mel)

    def read(path: Path) -> Tensor:
        return spectrogram(torch.from_numpy(audio.read(path, mel.sample_rate))[None])

    options.output.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(cases, 1):
        converted = convert(model, read(case.source), [read(path) for path in case.targets])
        with torch.inference_mode():
            samples = vocoder(converted.clamp(min=math.log(mel.floor)))[0].numpy()
        output = options.output / f"{case.id}.wav"
        audio.write(output, samples / max(1.0, np.abs(samples).max()), mel.sample_rate, force=True)
        print(f"[{number}/{len(cases)}] {output}", flush=True)


if __name__ == "__main__":
    main()
