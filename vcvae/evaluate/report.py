"""Make conversions, measure them, and write the results: report.json, report.md and report.html."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vcvae import audio
from vcvae.convert.converter import Converter
from vcvae.defaults import VOICE_STEPS
from vcvae.errors import VcvaeError, disk_errors, reason, replacing
from vcvae.evaluate import page, pictures, verification
from vcvae.evaluate.cases import Case, read_start
from vcvae.evaluate.conversions import Conversions, OtherConversions
from vcvae.evaluate.cost import Cost
from vcvae.evaluate.latents import (
    LatentMetric,
    UtteranceLatents,
    encode_utterances,
    measure_latents,
    sample_utterances,
)
from vcvae.evaluate.measures import Distortion, F0Correlation, Measure, Similarity, Value
from vcvae.evaluate.verification import Verification
from vcvae.metrics.bootstrap import Interval, Ratio, interval
from vcvae.progress import Progress, no_progress

LATENT_METRICS = "metrics of the latents"  # as the list of missing measures calls them


@dataclass
class EvaluationReport:
    """The results of an evaluation.

    Attributes:
        settings: fingerprints of the weights, steps of fine-tuning, and the mode where that is a stream; or the folder
            of conversions that were made elsewhere; seed.
        cases: the conversions.
        missing: what could not be measured, and why.
        labels: what each key of a measure means.
        measured: the values of each case that was converted, by its id.
        failed: the cases in which something failed, and why.
        summary: of each measure, the mean over conversions and the mean over sources.
        verification: of each verifier, the cosines of natural recordings, and the conversions that it accepts.
        speakers: the metrics of the latents.
        cost: of a conversion.
    """

    settings: dict[str, Any]
    cases: list[Case]
    missing: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    measured: dict[str, dict[str, Value]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    summary: dict[str, tuple[Interval | None, Interval | None]] = field(default_factory=dict)
    verification: dict[str, Verification] = field(default_factory=dict)
    speakers: dict[str, LatentMetric] = field(default_factory=dict)
    cost: Cost | None = None

    def as_json(self) -> str:
        """All of it as JSON: what is not available is null, a ratio is a list of part and whole."""
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
            key: {
                "label": self.labels[key],
                "conversions": conversions._asdict() if conversions else None,
                "sources": sources._asdict() if sources else None,
            }
            for key, (conversions, sources) in self.summary.items()
        }
        speakers = {
            key: {
                "label": metric.label,
                "value": metric.value._asdict() if isinstance(metric.value, Interval) else metric.value,
                "chance": metric.chance,
            }
            for key, metric in self.speakers.items()
        }
        report = {
            "settings": self.settings,
            "summary": summary,
            "verification": verification.as_json(self.verification),
            "speakers": speakers,
            "cost": asdict(self.cost) if self.cost else None,
            "missing": self.missing,
            "cases": cases,
        }
        return json.dumps(_without_nan(report), indent=1, ensure_ascii=False, allow_nan=False)


def evaluate(
    converter: Converter,
    cases: Sequence[Case],
    folder: str | Path,
    *,
    measures: Sequence[Measure] = (),
    missing: Mapping[str, str] | None = None,
    cost: Cost | None = None,
    converted: str | Path | None = None,
    corpus: Sequence[tuple[Path, str]] = (),
    steps: int = VOICE_STEPS,
    refine: int | None = None,
    stream: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress = no_progress,
    part: Progress = no_progress,
) -> EvaluationReport:
    """Convert the cases, measure the conversions, and write the results into `folder`.

    Args:
        converter: the converter to evaluate.
        cases: the conversions to make.
        folder: of conversions, pictures and reports.
        measures: beside those that need no other network; `load_measures` gives them, and what is `missing`.
        missing: measures that were asked for and are not available, and why.
        cost: of a conversion (`measure_cost`), for the report.
        converted: folder of conversions that another system made, named by the ids of the cases; nothing is converted.
        corpus: recordings of speakers who are not in the training data, each with its speaker; without them the latents
            are not measured.
        steps: of fine-tuning to each target, with the very source of each case.
        refine: learn each target for any source, and refine it to each source in so many steps.
        stream: convert each source as it would arrive (`Converter.stream`), not as a whole file.
        seed: of the bootstrap, and of the choice of utterances of the corpus.
        force: make conversions again that are there.
        progress: called with (done, total, description) as the work proceeds.
        part: the same, within a conversion.

    Raises:
        VcvaeError: nothing could be converted, matplotlib is missing, or the folder cannot be written or holds
            conversions made with other settings.
    """
    pictures.require_matplotlib()
    folder = Path(folder)
    config = converter.mel_config
    report = EvaluationReport({"seed": seed}, list(cases), dict(missing or {}), cost=cost)
    measures = [F0Correlation(config), *measures]
    if any(case.reference for case in cases):
        measures.insert(1, Distortion(config))
    else:
        report.missing |= dict.fromkeys(Distortion.labels.values(), "needs cases that have a 'reference'")
    for measure in measures:
        report.labels |= measure.labels

    if converted is None:
        conversions = Conversions(
            converter, cases, folder, steps=steps, refine=refine, stream=stream, force=force, progress=part
        )
    else:
        conversions = OtherConversions(Path(converted), cases, folder, sample_rate=config.sample_rate)
    report.settings |= conversions.settings
    recordings = _convert(report, conversions, progress)
    _measure(report, measures, recordings, progress)
    _summarize(report, seed)
    _verify(report, measures, recordings, corpus, seed, progress)
    latents = UtteranceLatents()
    if converted is None:
        latents = _measure_speakers(report, converter, corpus, seed, progress)
    _draw(report, converter, folder, recordings, latents, seed, progress)
    page.write(report, folder)
    with replacing(folder / "report.json") as file:
        file.write(report.as_json().encode())
    return report


def _convert(
    report: EvaluationReport, conversions: Conversions | OtherConversions, progress: Progress
) -> dict[str, Path]:
    """The converted recordings by case id, without the cases that fail."""
    converted = {}
    cases = conversions.cases
    for done, case in enumerate(cases):
        progress(done, len(cases), "converting")
        try:
            converted[case.id] = conversions.make(case)
        except VcvaeError as error:
            report.failed[case.id] = str(error)
    progress(len(cases), len(cases), "converting")
    if not converted:
        raise VcvaeError(f"no case could be converted; the first failure: {next(iter(report.failed.values()))}")
    return converted


def _measure(
    report: EvaluationReport, measures: Sequence[Measure], converted: dict[str, Path], progress: Progress
) -> None:
    cases = [case for case in report.cases if case.id in converted]
    for done, case in enumerate(cases):
        progress(done, len(cases), "measuring")
        values = report.measured[case.id] = {}
        for measure in measures:
            try:
                values |= measure(case, converted[case.id])
            except Exception as error:  # third-party networks raise errors of any kind; the other measures go on
                reasons = [report.failed.get(case.id), f"{', '.join(measure.labels)}: {reason(error)}"]
                report.failed[case.id] = "; ".join(filter(None, reasons))
    progress(len(cases), len(cases), "measuring")


def _summarize(report: EvaluationReport, seed: int) -> None:
    for key, label in report.labels.items():
        values = [measured[key] for measured in report.measured.values() if key in measured]
        of_conversions = interval([value.conversion for value in values], seed=seed) if values else None
        of_sources = interval([value.source for value in values], seed=seed) if values else None
        if of_conversions:
            report.summary[key] = of_conversions, of_sources
        else:
            report.missing[label] = "could not be measured in any case"


def _verify(
    report: EvaluationReport,
    measures: Sequence[Measure],
    converted: dict[str, Path],
    corpus: Sequence[tuple[Path, str]],
    seed: int,
    progress: Progress,
) -> None:
    """The natural recordings of the test set by each verifier."""
    verifiers = [measure for measure in measures if isinstance(measure, Similarity)]
    trials = verification.enrolments(report.cases, corpus)
    pairs = [(case, converted[case.id]) for case in report.cases if case.id in converted]
    for done, similarity in enumerate(verifiers):
        progress(done, len(verifiers), "verifying")
        label = f"verification, {similarity.name}"
        try:
            result = verification.verify(similarity, trials, pairs, seed=seed)
        except Exception as error:  # third-party networks raise errors of any kind
            report.missing[label] = reason(error)
            continue
        if result:
            report.verification[similarity.name] = result
        else:
            report.missing[label] = "needs a speaker with two recordings or more"
    progress(len(verifiers), len(verifiers), "verifying")


def _measure_speakers(
    report: EvaluationReport,
    converter: Converter,
    corpus: Sequence[tuple[Path, str]],
    seed: int,
    progress: Progress,
) -> UtteranceLatents:
    if not corpus:
        report.missing[LATENT_METRICS] = "needs a prepared folder; give one with --corpus"
        return UtteranceLatents()
    latents = encode_utterances(converter, sample_utterances(corpus, seed=seed), progress=progress)
    try:
        report.speakers = measure_latents(latents, seed=seed)
    except VcvaeError as error:
        report.missing[LATENT_METRICS] = str(error)
    return latents


def _draw(
    report: EvaluationReport,
    converter: Converter,
    folder: Path,
    converted: dict[str, Path],
    latents: UtteranceLatents,
    seed: int,
    progress: Progress,
) -> None:
    """The pictures, and the recordings that the page plays."""
    for name in ("recordings", "pictures"):
        with disk_errors(folder / name, "made"):
            (folder / name).mkdir(exist_ok=True)
    points = list(latents.speaker)
    speakers = list(latents.speakers)
    is_conversion = [False] * len(points)
    cases = [case for case in report.cases if case.id in converted]
    rate = converter.mel_config.sample_rate
    for done, case in enumerate(cases):
        progress(done, len(cases), "drawing")
        recordings = {}
        for name, path in (("source", case.source), ("target", case.targets[0])):
            recordings[name] = read_start(path, rate)
            audio.write(folder / "recordings" / f"{case.id}.{name}.flac", recordings[name], rate, force=True)
        recordings["conversion"] = read_start(converted[case.id], rate)
        pictures.plot_mels(folder / "pictures" / f"{case.id}.png", recordings, converter.mel_config)
        source_speaker, target_speaker = case.speakers
        to_plot = [(converted[case.id], target_speaker, True)]
        if not latents.speaker:
            to_plot.append((case.source, source_speaker, False))
            to_plot += [(path, target_speaker, False) for path in case.targets]
        for path, speaker, conversion in to_plot:
            points.append(converter.speaker(path))
            speakers.append(speaker)
            is_conversion.append(conversion)
    progress(len(cases), len(cases), "drawing")
    pictures.plot_speakers(
        folder / "pictures" / "speakers.png", points, speakers, is_conversion=is_conversion, seed=seed
    )


def _without_nan(value: Any) -> Any:
    """The same value for JSON, which has no NaN: null in its place."""
    if isinstance(value, Ratio):
        return list(value)
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
