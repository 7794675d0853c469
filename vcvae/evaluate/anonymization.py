"""How well speakers are hidden, and what is left of their speech, in the manner of the VoicePrivacy Challenge.

Each speaker's utterances are halved: an attacker enrols one half, and the other half are the trials. Both are
anonymized twice: by utterance, each in a voice of its own; and by speaker, the enrolled half with another key than the
trials, since an attacker has not the user's. The verifiers are public ones as they are: no attacker was trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vcvae.convert.anonymize import Anonymizer
from vcvae.convert.converter import Converter
from vcvae.documents import read_json
from vcvae.errors import VcvaeError, check_folder, disk_errors, reason, replacing
from vcvae.evaluate.cases import Case
from vcvae.evaluate.latents import sample_utterances
from vcvae.evaluate.measures import F0Correlation, Measure, Similarity, Value
from vcvae.evaluate.page import markdown_table
from vcvae.metrics.anonymization import Embeddings, verification_error, voice_distinctiveness_gain
from vcvae.metrics.bootstrap import Interval, interval
from vcvae.models.hub import fingerprint
from vcvae.progress import Progress, no_progress

MODES = ("by speaker", "by utterance")
NOT_DONE = (
    "No attacker was trained on anonymized speech. Such attackers are stronger: they make fewer errors than these."
)


@dataclass(frozen=True)
class Utterance:
    """A recording that is anonymized; `enrolled` by the attacker, or tried."""

    path: Path
    speaker: str
    enrolled: bool

    def name(self) -> str:
        """Of the utterance, in a folder of its speaker."""
        digest = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:8]
        return f"{self.speaker.replace('/', '_')}/{self.path.stem}-{digest}"


@dataclass
class AnonymizationReport:
    """The results.

    Attributes:
        settings: fingerprints of the weights, and the seed.
        speakers: their number.
        trials: the number of utterances that are tried; as many or one more of a speaker are enrolled.
        errors: equal error rates by verifier, then by what is enrolled and tried.
        distinctiveness: the gain of voice distinctiveness in dB, by verifier, of voices by speaker.
        labels: what each key of a measure means.
        summary: of each measure, the mean over anonymized trials by speaker, and over the sources.
        missing: what could not be measured, and why.
        failed: the utterances that could not be anonymized or measured, and why.
    """

    settings: dict[str, Any]
    speakers: int
    trials: int
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    distinctiveness: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    summary: dict[str, tuple[Interval | None, Interval | None]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> str:
        """All of it as JSON; what is not available is null."""
        summary = {
            key: {
                "label": self.labels[key],
                "anonymized": anonymized._asdict() if anonymized else None,
                "sources": sources._asdict() if sources else None,
            }
            for key, (anonymized, sources) in self.summary.items()
        }
        values = {name: getattr(self, name) for name in ("settings", "speakers", "trials", "errors", "distinctiveness")}
        values |= {"summary": summary, "missing": self.missing, "failed": self.failed, "not_done": NOT_DONE}
        return json.dumps(values, indent=1, ensure_ascii=False)

    def markdown(self) -> str:
        """All of it as tables."""
        tables = {
            "Equal error rate of an attacker": (
                ("verifier", "enrolled", "tried", *MODES),
                [row for name, errors in self.errors.items() for row in _error_rows(name, errors)],
            ),
            f"Speech of {self.trials} trials by speaker": (
                ("measure", "anonymized", "sources"),
                [
                    *((self.labels[key], _text(one), _text(other)) for key, (one, other) in self.summary.items()),
                    *(
                        (f"gain of voice distinctiveness, {k}", f"{v:.1f} dB", "0 dB")
                        for k, v in self.distinctiveness.items()
                    ),
                ],
            ),
            "Missing": (("measure", "why"), list(self.missing.items())),
            "Failed": (("utterance", "why"), list(self.failed.items())),
        }
        parts = [
            "# Evaluation of anonymization",
            f"Model {self.settings['model']}, vocoder {self.settings['vocoder']}; {self.speakers} speakers; "
            f"{self.settings['refine']} steps of refining; seed {self.settings['seed']}. "
            "Brackets are 95 % bootstrap intervals.",
            NOT_DONE,
        ]
        for title, (columns, rows) in tables.items():
            if rows:
                parts += [f"## {title}", markdown_table(columns, rows)]
        return "\n\n".join(parts) + "\n"


def _error_rows(name: str, errors: Mapping[str, float]) -> list[tuple[str, ...]]:
    def percent(key: str) -> str:
        return f"{100 * errors[key]:.1f} %" if key in errors else "–"

    rows = [(name, "originals", "originals", percent("original"), percent("original"))]
    for enrolled in ("originals", "anonymized"):
        rows.append((name, enrolled, "anonymized", *(percent(f"{enrolled} enrolled, {mode}") for mode in MODES)))
    return rows


def _text(value: Interval | None) -> str:
    return str(value) if value else "–"


def evaluate_anonymization(
    converter: Converter,
    utterances: Sequence[tuple[Path, str]],
    folder: str | Path,
    *,
    measures: Sequence[Measure] = (),
    missing: Mapping[str, str] | None = None,
    transcripts: Mapping[Path, str] | None = None,
    refine: int = 0,
    seed: int = 0,
    force: bool = False,
    progress: Progress = no_progress,
) -> AnonymizationReport:
    """Anonymize utterances of unseen speakers, measure the result, and write it into `folder`.

    Args:
        converter: anonymizes.
        utterances: pairs of a recording and its speaker; at most 10 of each of 40 speakers are drawn.
        folder: for report.json and report.md, and the anonymized recordings, which are made only once.
        measures: those of `load_measures`; a `Similarity` is a verifier.
        missing: measures that were asked for and cannot be taken, with the reasons.
        transcripts: the words of recordings, where they are known.
        refine: steps in which voices are refined to each recording, as by `vcvae anonymize --refine`.
        seed: of all that is drawn.
        force: make recordings again that were made with other settings.
        progress: called after each recording.

    Raises:
        VcvaeError: fewer than two speakers of two utterances or more; a folder that cannot be written, or that holds
            recordings made with other settings.
    """
    folder = Path(folder)
    chosen = _halve(sample_utterances(utterances, seed=seed))
    settings = {
        "model": fingerprint(converter.model),
        "vocoder": f"{type(converter.vocoder).__name__} {fingerprint(converter.vocoder)}",
        "refine": refine,
        "seed": seed,
    }
    _check_settings(folder, settings, force)
    trials = [utterance for utterance in chosen if not utterance.enrolled]
    report = AnonymizationReport(settings, len({u.speaker for u in chosen}), len(trials), missing=dict(missing or {}))
    made = _Recordings(converter, folder, refine, seed, force).make(chosen, report, progress)
    chosen = [utterance for utterance in chosen if all((mode, utterance) in made for mode in MODES)]
    verifiers = [measure for measure in measures if isinstance(measure, Similarity)]
    for done, verifier in enumerate(verifiers):
        progress(done, len(verifiers), "verifying")
        _verify(report, verifier, chosen, made)
    others = [F0Correlation(converter.mel_config), *(m for m in measures if not isinstance(m, Similarity))]
    tried, words = [utterance for utterance in chosen if not utterance.enrolled], transcripts or {}
    cases = [Case(utterance.name(), utterance.path, (), words.get(utterance.path, "")) for utterance in tried]
    _measure(report, others, cases, [made[MODES[0], utterance] for utterance in tried], seed, progress)
    for name, text in (("report.json", report.as_json()), ("report.md", report.markdown())):
        with replacing(folder / name) as file:
            file.write(text.encode())
    return report


def _halve(utterances: Sequence[tuple[Path, str]]) -> list[Utterance]:
    """Every second utterance of each speaker is enrolled.

    Raises:
        VcvaeError: there are fewer than two speakers.
    """
    if len({speaker for _, speaker in utterances}) < 2:
        raise VcvaeError("--corpus: anonymization is measured on two speakers or more, of two utterances or more each.")
    counts: dict[str, int] = {}
    halved = []
    for path, speaker in utterances:
        number = counts[speaker] = counts.get(speaker, -1) + 1
        halved.append(Utterance(path, speaker, number % 2 == 0))
    return halved


def _check_settings(folder: Path, settings: dict[str, Any], force: bool) -> None:
    check_folder(folder)
    with disk_errors(folder, "made"):
        folder.mkdir(parents=True, exist_ok=True)
    file = folder / "settings.json"
    if file.exists() and not force and read_json(file, advice="give another folder with -o") != settings:
        raise VcvaeError(f"{folder}: holds recordings made with other settings; give another -o, or --force.")
    with replacing(file) as output:
        output.write(json.dumps(settings, indent=1).encode())


class _Recordings:
    """Makes the anonymized recordings in a folder, each once."""

    def __init__(self, converter: Converter, folder: Path, refine: int, seed: int, force: bool) -> None:
        self.folder, self.force = folder, force
        keys = [hashlib.sha256(f"{seed} {number}".encode()).digest() for number in range(3)]
        self.enrolled, self.tried = (Anonymizer(converter, key=key, refine_steps=refine) for key in keys[:2])
        self.by_utterance = Anonymizer(converter, key=keys[2], apart=False, refine_steps=refine)

    def make(
        self, utterances: Sequence[Utterance], report: AnonymizationReport, progress: Progress
    ) -> dict[tuple[str, Utterance], Path]:
        """The anonymized recordings of utterances, by mode, without those that fail."""
        own: dict[str, list[Path]] = {}
        for utterance in utterances:
            own.setdefault(utterance.speaker, []).append(utterance.path)
        made = {}
        for done, utterance in enumerate(utterances):
            progress(done, len(utterances), "anonymizing")
            of_speaker = self.enrolled if utterance.enrolled else self.tried
            try:
                for mode, anonymizer, name, recordings in (
                    (MODES[0], of_speaker, utterance.speaker, own[utterance.speaker]),
                    (MODES[1], self.by_utterance, utterance.name(), [utterance.path]),
                ):
                    output = self.folder / mode.replace(" ", "-") / f"{utterance.name()}.wav"
                    if self.force or not output.exists():
                        with disk_errors(output.parent, "made"):
                            output.parent.mkdir(parents=True, exist_ok=True)
                        anonymizer.convert_file(utterance.path, name, recordings, output, force=True)
                    made[mode, utterance] = output
            except VcvaeError as error:
                report.failed[str(utterance.path)] = str(error)
        progress(len(utterances), len(utterances), "anonymizing")
        return made


def _verify(
    report: AnonymizationReport,
    verifier: Similarity,
    utterances: Sequence[Utterance],
    made: Mapping[tuple[str, Utterance], Path],
) -> None:
    """The equal error rates of a verifier, and the distinctiveness of the voices by its embeddings."""
    enrolled = [utterance for utterance in utterances if utterance.enrolled]
    tried = [utterance for utterance in utterances if not utterance.enrolled]

    def embeddings(of: Sequence[Utterance], mode: str | None) -> Embeddings:
        return np.stack([verifier.embed(made[mode, utterance] if mode else utterance.path) for utterance in of])

    names = [u.speaker for u in enrolled], [u.speaker for u in tried]
    try:
        original = embeddings(enrolled, None), embeddings(tried, None)
        errors = {"original": verification_error(original[0], names[0], original[1], names[1])}
        for mode in MODES:
            hidden = embeddings(enrolled, mode), embeddings(tried, mode)
            errors[f"originals enrolled, {mode}"] = verification_error(original[0], names[0], hidden[1], names[1])
            errors[f"anonymized enrolled, {mode}"] = verification_error(hidden[0], names[0], hidden[1], names[1])
        report.errors[verifier.name] = errors
        voices = embeddings(tried, MODES[0])
        report.distinctiveness[verifier.name] = voice_distinctiveness_gain(original[1], voices, names[1])
    except Exception as error:  # third-party networks raise errors of any kind; the other measures go on
        report.missing[verifier.name] = reason(error)


def _measure(
    report: AnonymizationReport,
    measures: Sequence[Measure],
    trials: Sequence[Case],
    anonymized: Sequence[Path],
    seed: int,
    progress: Progress,
) -> None:
    """The measures of the speech of the trials, each anonymized by speaker."""
    measured: dict[str, list[Value]] = {}
    for measure in measures:
        report.labels |= measure.labels
    for done, (case, recording) in enumerate(zip(trials, anonymized, strict=True)):
        progress(done, len(trials), "measuring")
        for measure in measures:
            try:
                for key, value in measure(case, recording).items():
                    measured.setdefault(key, []).append(value)
            except Exception as error:  # as above
                report.failed[str(case.source)] = reason(error)
    for key, values in measured.items():
        of_conversions = interval([value.conversion for value in values], seed=seed)
        of_sources = interval([value.source for value in values], seed=seed)
        report.summary[key] = of_conversions, of_sources
