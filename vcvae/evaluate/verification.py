"""Speaker verification of natural recordings: what similarity means by a verifier, and which conversions it accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vcvae.evaluate.cases import UTTERANCES_PER_TARGET, Case, group_by_speaker
from vcvae.evaluate.measures import Similarity
from vcvae.metrics.bootstrap import Interval, interval
from vcvae.metrics.speakers import equal_error

MAX_TRIAL_SPEAKERS = 40


@dataclass(frozen=True)
class Enrolment:
    """Recordings of a speaker, of which one is compared with the mean of the others; and recordings of strangers."""

    recordings: tuple[Path, ...]
    strangers: tuple[Path, ...]


@dataclass(frozen=True)
class Verification:
    """Cosines of natural recordings by a verifier, and the share of conversions that it accepts as the target.

    Each is compared as a conversion is, with the mean of the speaker's (other) recordings. Accepted is what reaches the
    threshold of equal error.
    """

    same_speaker: Interval
    strangers: Interval
    equal_error_rate: float
    threshold: float
    accepted: Interval


def enrolments(cases: Sequence[Case], corpus: Sequence[tuple[Path, str]]) -> list[Enrolment]:
    """The trials of a test set: of the speakers of a corpus; without one, of each case's targets and its source.

    Of a table of cases, recordings of different cases are not compared: they may be of one speaker.
    """
    if not corpus:
        return [Enrolment(case.targets, (case.source,)) for case in cases]
    files_of = group_by_speaker(corpus)
    speakers = sorted(name for name, files in files_of.items() if len(files) > 1)[:MAX_TRIAL_SPEAKERS]
    return [
        Enrolment(
            tuple(files_of[name][: UTTERANCES_PER_TARGET + 1]),
            tuple(files_of[other][0] for other in speakers if other != name),
        )
        for name in speakers
    ]


def verify(
    similarity: Similarity,
    trials: Sequence[Enrolment],
    converted: Sequence[tuple[Case, Path]],
    *,
    seed: int = 0,
) -> Verification | None:
    """Verify natural recordings, and conversions by the threshold of these; None without trials of both kinds."""
    same, strangers = [], []
    for enrolment in trials:
        for number, recording in enumerate(enrolment.recordings):
            others = enrolment.recordings[:number] + enrolment.recordings[number + 1 :]
            if others:
                same.append(similarity.cosine(recording, others))
        strangers += [similarity.cosine(recording, enrolment.recordings) for recording in enrolment.strangers]
    if not (same and strangers and converted):
        return None
    rate, threshold = equal_error(torch.tensor(same), torch.tensor(strangers))
    accepted = [float(similarity.cosine(path, case.targets) >= threshold) for case, path in converted]
    return Verification(
        interval(same, seed=seed), interval(strangers, seed=seed), rate, threshold, interval(accepted, seed=seed)
    )


def as_json(verifications: Mapping[str, Verification]) -> dict[str, dict]:
    """Of each verifier, by its name: plain values."""
    return {
        name: {
            key: value._asdict() if isinstance(value, Interval) else value for key, value in vars(verification).items()
        }
        for name, verification in verifications.items()
    }
