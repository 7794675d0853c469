"""The rate of the input pipeline against that of training. Run by hand: `python tests/bench/input.py`.

Seconds of audio per second: of the input pipeline alone, from files and from shards, with 0, 1 and 2 workers; and of a
step of recipes/folder/conversion.yaml, with 1 and 2 threads, as training begins and later with conversions and the
discriminator. The pipeline must be three times as fast as the step.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from rich.console import Console

from vcvae import audio
from vcvae.config import read_yaml
from vcvae.data.prepare import prepare
from vcvae.data.shar import export_shards
from vcvae.training.batches import ResumableBatchSampler, batches
from vcvae.training.loop import Trainer
from vcvae.training.task import Batch
from vcvae.training.tasks import parse

ROOT = Path(__file__).parents[2]
SPEAKERS, UTTERANCES, SECONDS = 24, 6, 5.0


def make_corpus(folder: Path) -> Path:
    """Pieces of a recording, each at a level of its own."""
    speech = audio.read(ROOT / "egs" / "convert" / "source.flac", 22050)
    speech = np.tile(speech, 1 + round(2 * SECONDS * 22050) // len(speech))
    for k, i in itertools.product(range(SPEAKERS), range(UTTERANCES)):
        path = folder / "source" / f"speaker{k:02d}" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = (7919 * (k * UTTERANCES + i)) % (len(speech) // 2)
        sf.write(path, (0.5 + 0.02 * k) * speech[start : start + round(SECONDS * 22050)], 22050)
    prepare("folder", folder / "source", folder / "ready", sample_rate=22050, dev=0, test=0)
    export_shards(folder / "ready" / "train", shard_seconds=SPEAKERS * UTTERANCES * SECONDS / 8)
    return folder / "ready" / "train"


def run(place: Path, output: Path, **changes) -> Trainer:
    values = read_yaml(ROOT / "recipes" / "folder" / "conversion.yaml")
    values |= {"output": str(output), "data": {"train": str(place), "dev": str(place)}} | changes
    return Trainer(parse(values, context="bench"), Console(quiet=True))


def read(run: Trainer) -> Iterator[Batch]:
    """The batches of a run, from its beginning."""
    positions = ResumableBatchSampler(run.config.batch_speakers, 0)
    return batches(run.data, positions, workers=run.config.workers, device=run.accelerator.device)


def per_second(step: Callable[[], object], seconds: float, skipped: int) -> float:
    """How often `step` can be done in a second; the first times are skipped, for batches that lay ready."""
    for _ in range(skipped):
        step()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds or done < 2:
        step()
        done += 1
    return done / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement in each round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_corpus(Path(temporary))
        steps, threads = {}, {}
        for form, place in (("files", folder), ("shards", folder / "shar")):
            for workers in (0, 1, 2):
                trainer = run(place, folder / "run", workers=workers)
                steps[f"reading {form}, {workers} workers"] = partial(next, read(trainer)), 4 * workers + 1
        trainer = run(folder, folder / "run", workers=0)
        ready = list(itertools.islice(read(trainer), 8))
        for count in (1, 2):
            for name, begins in (("begins", 0), ("continues", trainer.config.conversions_from)):

                def advance(begins: int = begins) -> None:
                    trainer.step = begins
                    trainer._advance(itertools.cycle(ready))

                steps[f"training as it {name}, {count} threads"] = advance, 1
                threads[f"training as it {name}, {count} threads"] = count
        best = dict.fromkeys(steps, 0.0)
        for _ in range(arguments.rounds):  # taking turns, so that a busy moment of the machine hits all
            for name, (step, skipped) in steps.items():
                torch.set_num_threads(threads.get(name, 1))
                best[name] = max(best[name], per_second(step, arguments.seconds, skipped))
    c = trainer.config
    frames = c.batch_speakers * c.segments * c.segment_frames * c.accumulate
    seconds = frames / c.model.mel.frame_rate
    training = [name for name in best if name in threads]
    print(f"batches of {frames} frames, {seconds:.0f} s; best of {arguments.rounds} rounds")
    print(f"{'':32}{'frames/s':>10}{'s/s':>8}" + "".join(f"{'× ' + name[9:]:>28}" for name in training))
    for name, rate in best.items():
        ratios = "" if name in threads else "".join(f"{rate / best[other]:28.1f}" for other in training)
        print(f"{name:32}{rate * frames:10,.0f}{rate * seconds:8.0f}{ratios}")


if __name__ == "__main__":
    main()
