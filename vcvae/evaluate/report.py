"""Make conversions, measure them, and write what was found: report.json, report.md, report.html."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vcvae import audio
from vcvae.convert.converter import Converter
from vcvae.defaults import ADAPT_STEPS
from vcvae.errors import VcvaeError, disk_errors, replacing
from vcvae.evaluate import latents, page, pictures
from vcvae.evaluate.cases import Case
from vcvae.evaluate.conversions import Conversions
from vcvae.evaluate.latents import Finding, Latents
from vcvae.evaluate.measures import Distortion, F0Correlation, Measure, Value
from vcvae.metrics.bootstrap import Interval, Ratio, interval

Track = Callable[[Iterable, str], Iterable]


@dataclass
class Report:
    """What was found. `measured` has each case's values, `summary` their means: of conversions, and of the sources."""

    settings: dict[str, Any]
    cases: list[Case]
    missing: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    measured: dict[str, dict[str, Value]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    summary: dict[str, tuple[Interval | None, Interval | None]] = field(default_factory=dict)
    speakers: dict[str, Finding] = field(default_factory=dict)

    def as_json(self) -> str:
        """What is not known is null, and a ratio a list of part and whole."""
        cases = [
            {
                "id": case.id,
                "source": str(case.source),
                "targets": [str(path) for path in case.targets],
                "failed": self.failed.get(case.id),
                "measures": {key: value._asdict() for key, value in self.measured.get(case.id, {}).items()},
            }
            for case in self.cases
        ]
        summary = {
            key: {"label": self.labels[key]}
            | {name: found and found._asdict() for name, found in zip(("conversions", "sources"), pair, strict=True)}
            for key, pair in self.summary.items()
        }
        speakers = {
            key: {
                "label": found.label,
                "value": found.value._asdict() if isinstance(found.value, Interval) else found.value,
                "chance": found.chance,
            }
            for key, found in self.speakers.items()
        }
        everything = {
            "settings": self.settings,
            "summary": summary,
            "speakers": speakers,
            "missing": self.missing,
            "cases": cases,
        }
        return json.dumps(_known(everything), indent=1, ensure_ascii=False, allow_nan=False)


def evaluate(
    converter: Converter,
    cases: Sequence[Case],
    folder: str | Path,
    *,
    measures: Sequence[Measure] = (),
    missing: Mapping[str, str] | None = None,
    corpus: Sequence[tuple[Path, str]] = (),
    steps: int = ADAPT_STEPS,
    seed: int = 0,
    force: bool = False,
    track: Track = lambda items, description: items,
) -> Report:
    """Convert the cases, measure the conversions, and write all into `folder`.

    Args:
        measures: beside those that need no other network; `load_measures` gives them, and what is `missing`.
        corpus: the utterances of a prepared folder of speakers whom the model never heard; without it, how well latents
            tell speakers apart is not measured.
        steps: of learning each target's voice first.
        seed: of the bootstrap, and of what is drawn from the corpus.
        force: make conversions anew that are there already.
        track: shows progress through what it is given, under a description.

    Raises:
        VcvaeError: nothing could be converted, matplotlib is missing, or the folder cannot be written or holds
            conversions that were made otherwise.
    """
    pictures.require_matplotlib()
    folder, config = Path(folder), converter.mel_config
    report = Report({"seed": seed}, list(cases), dict(missing or {}))
    measures = [F0Correlation(config), *measures]
    if any(case.reference for case in cases):
        measures.insert(1, Distortion(config))
    else:
        report.missing |= {label: "needs cases that have a 'reference'" for label in Distortion.labels.values()}
    for measure in measures:
        report.labels |= measure.labels

    conversions, made = Conversions(converter, cases, folder, steps=steps, force=force), {}
    report.settings |= conversions.settings
    for case in track(conversions.cases, "converting"):
        try:
            made[case.id] = conversions.make(case)
        except VcvaeError as error:
            report.failed[case.id] = str(error)
    if not made:
        raise VcvaeError(f"no case could be converted; the first failed so: {next(iter(report.failed.values()))}")
    for case in track([case for case in cases if case.id in made], "measuring"):
        _measure(report, measures, case, made[case.id])
    _summarise(report, seed)
    known = _find_speakers(report, converter, corpus, seed, track)
    _illustrate(report, converter, folder, made, known, seed, track)
    page.write(report, folder)
    with replacing(folder / "report.json") as file:
        file.write(report.as_json().encode())
    return report


def _measure(report: Report, measures: Sequence[Measure], case: Case, conversion: Path) -> None:
    found = report.measured[case.id] = {}
    for measure in measures:
        try:
            found |= measure(case, conversion)
        except Exception as error:  # networks of others fail each in their own way; the rest is still worth knowing
            reason = " ".join(str(error).split()) or type(error).__name__
            reasons = [report.failed.get(case.id), f"{', '.join(measure.labels)}: {reason}"]
            report.failed[case.id] = "; ".join(filter(None, reasons))


def _summarise(report: Report, seed: int) -> None:
    for key in report.labels:
        values = [found[key] for found in report.measured.values() if key in found]
        of_conversions, of_sources = (
            interval([value[i] for value in values], seed=seed) if values else None for i in (0, 1)
        )
        if of_conversions:
            report.summary[key] = of_conversions, of_sources
        else:
            report.missing[report.labels[key]] = "could be measured in no case"


def _find_speakers(report: Report, converter: Converter, corpus, seed: int, track: Track) -> Latents:
    if not corpus:
        report.missing["how well latents tell speakers apart"] = "needs a prepared folder; give one with --corpus"
        return Latents()
    recordings = latents.sample(corpus, seed=seed)
    known = latents.encode(converter, recordings, track=lambda items: track(items, "encoding"))
    try:
        report.speakers = latents.leakage(known, seed=seed)
    except VcvaeError as error:
        report.missing["how well latents tell speakers apart"] = str(error)
    return known


def _illustrate(
    report: Report, converter: Converter, folder: Path, made: dict[str, Path], known: Latents, seed: int, track: Track
) -> None:
    """The recordings beside the page, and the pictures."""
    for name in ("recordings", "pictures"):
        with disk_errors(folder / name, "made"):
            (folder / name).mkdir(exist_ok=True)
    points, speakers, converted = list(known.speaker), list(known.speakers), [False] * len(known.speaker)
    done = [case for case in report.cases if case.id in made]
    for case in track(done, "drawing"):
        rate, shown = converter.mel_config.sample_rate, {}
        for name, path in (("source", case.source), ("target", case.targets[0])):
            shown[name] = audio.read(path, rate)
            audio.write(folder / "recordings" / f"{case.id}.{name}.flac", shown[name], rate, force=True)
        shown["conversion"] = audio.read(made[case.id], rate)
        pictures.draw_mels(folder / "pictures" / f"{case.id}.png", shown, converter.mel_config)
        heard = [(made[case.id], case.speakers[1], True)]
        if not known.speaker:
            heard += [(case.source, case.speakers[0], False)] + [(x, case.speakers[1], False) for x in case.targets]
        for path, speaker, is_conversion in heard:
            points.append(converter.speaker(path))
            speakers.append(speaker)
            converted.append(is_conversion)
    pictures.draw_speakers(folder / "pictures" / "speakers.png", points, speakers, converted=converted, seed=seed)


def _known(value: Any) -> Any:
    """The same for JSON, which has no NaN."""
    if isinstance(value, Ratio):
        return list(value)
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_known(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
