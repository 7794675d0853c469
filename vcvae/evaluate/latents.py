"""Speaker information in a model's latents of speakers that it was not trained on, measured on a prepared folder.

Where each speaker was recorded in one place, room and microphone count as the speaker's: the figures then overstate
how much of the voice a latent carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcvae.convert.encoder import Encoder
from vcvae.evaluate.cases import group_by_speaker
from vcvae.metrics.bootstrap import Interval, interval
from vcvae.metrics.speakers import covariances, probe, retrieval
from vcvae.progress import Progress, no_progress

MAX_PROBE_SPEAKERS = 40
MAX_PROBE_UTTERANCES = 10  # of each speaker: a probe of 400 utterances takes minutes


@dataclass(frozen=True)
class UtteranceLatents:
    """Of some utterances: the speaker, the speaker latent (speaker_latent,) and the content latent (latent, frames)."""

    speakers: list[str] = field(default_factory=list)
    speaker: list[NDArray[np.float32]] = field(default_factory=list)
    content: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass(frozen=True)
class LatentMetric:
    """One figure: its label, its value, and the value of guessing."""

    label: str
    value: float | Interval
    chance: float


def sample_utterances(utterances: Sequence[tuple[Path, str]], *, seed: int = 0) -> list[tuple[Path, str]]:
    """Utterances of speakers who have two or more, drawn by the seed.

    At most `MAX_PROBE_UTTERANCES` of each of at most `MAX_PROBE_SPEAKERS` speakers.
    """
    random = np.random.default_rng(seed)
    files_of = group_by_speaker(utterances)
    speakers = sorted(name for name, files in files_of.items() if len(files) > 1)
    chosen = sorted(random.permutation(len(speakers))[:MAX_PROBE_SPEAKERS])
    return [
        (files_of[speakers[n]][i], speakers[n])
        for n in chosen
        for i in sorted(random.permutation(len(files_of[speakers[n]]))[:MAX_PROBE_UTTERANCES])
    ]


def encode_utterances(
    encoder: Encoder, utterances: Sequence[tuple[Path, str]], *, progress: Progress = no_progress
) -> UtteranceLatents:
    """The latents of recordings, each given with its speaker.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    latents = UtteranceLatents()
    for done, (path, speaker) in enumerate(utterances):
        progress(done, len(utterances), "encoding")
        latents.speakers.append(speaker)
        latents.speaker.append(encoder.speaker(path))
        latents.content.append(encoder.content(path))
    progress(len(utterances), len(utterances), "encoding")
    return latents


def measure_latents(latents: UtteranceLatents, *, seed: int = 0) -> dict[str, LatentMetric]:
    """How well the speaker latent identifies speakers, and how well a linear probe identifies them from the content.

    Raises:
        VcvaeError: fewer than two speakers of two utterances or more.
    """
    nearest = retrieval(latents.speaker, latents.speakers)
    by_content = probe(latents.content, latents.speakers)
    by_speaker = probe(latents.speaker, latents.speakers)
    by_covariance = probe(covariances(latents.content), latents.speakers)

    def accuracy(correct: tuple[bool, ...]) -> Interval:
        return interval([float(x) for x in correct], seed=seed)

    return {
        "equal_error_rate": LatentMetric("equal error rate of speaker latents", nearest.equal_error_rate, 0.5),
        "retrieval": LatentMetric("accuracy of the nearest speaker latent", accuracy(nearest.correct), nearest.chance),
        "probe_speaker": LatentMetric(
            "accuracy of a linear probe of speaker latents", accuracy(by_speaker.correct), by_speaker.chance
        ),
        "probe_content": LatentMetric(
            "… of content latents, mean and std (leakage)", accuracy(by_content.correct), by_content.chance
        ),
        "probe_covariance": LatentMetric(
            "… of content latents, covariances (leakage)", accuracy(by_covariance.correct), by_covariance.chance
        ),
    }
