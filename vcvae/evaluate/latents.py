"""What a model's latents tell of speakers whom it never heard, by a prepared folder of theirs.

What a room and a microphone leave in a latent counts as the speaker's where each speaker has one of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcvae.convert.converter import Encoder
from vcvae.metrics.bootstrap import Interval, interval
from vcvae.metrics.speakers import covariances, probe, retrieval

SPEAKERS, EACH = 40, 10  # at most: a probe of 400 utterances says enough, in minutes


@dataclass(frozen=True)
class Latents:
    """Of some utterances: who says each, its speaker latent (speaker_latent,) and content latent (latent, frames)."""

    speakers: list[str] = field(default_factory=list)
    speaker: list[NDArray[np.float32]] = field(default_factory=list)
    content: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    """One figure: what it is, its value, and what guessing gives."""

    label: str
    value: float | Interval
    chance: float


def sample(utterances: Sequence[tuple[Path, str]], *, seed: int = 0) -> list[tuple[Path, str]]:
    """At most `EACH` utterances of each of at most `SPEAKERS` speakers who have two or more, drawn by the seed."""
    random = np.random.default_rng(seed)
    spoken: dict[str, list[Path]] = defaultdict(list)
    for path, speaker in utterances:
        spoken[speaker].append(path)
    names = sorted(name for name, paths in spoken.items() if len(paths) > 1)
    chosen = sorted(random.permutation(len(names))[:SPEAKERS])
    return [
        (spoken[names[n]][i], names[n])
        for n in chosen
        for i in sorted(random.permutation(len(spoken[names[n]]))[:EACH])
    ]


def encode(
    encoder: Encoder, recordings: Iterable[tuple[Path, str]], *, track: Callable[[Iterable], Iterable] = iter
) -> Latents:
    """The latents of recordings, each given with its speaker.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    found = Latents()
    for path, speaker in track(recordings):
        found.speakers.append(speaker)
        found.speaker.append(encoder.speaker(path))
        found.content.append(encoder.content(path))
    return found


def leakage(latents: Latents, *, seed: int = 0) -> dict[str, Finding]:
    """How well speakers are found again by the speaker latent, and how well they hide in the content latent.

    Raises:
        VcvaeError: fewer than two speakers of two utterances or more.
    """
    found = retrieval(latents.speaker, latents.speakers)
    leaked, kept, together = (
        probe(which, latents.speakers) for which in (latents.content, latents.speaker, covariances(latents.content))
    )

    def share(correct: tuple[bool, ...]) -> Interval:
        return interval([float(x) for x in correct], seed=seed)

    return {
        "equal_error_rate": Finding("equal error rate of speaker latents", found.equal_error_rate, 0.5),
        "retrieval": Finding("the nearest speaker latent is the same speaker's", share(found.correct), found.chance),
        "probe_speaker": Finding(
            "a linear probe names the speaker by speaker latents", share(kept.correct), kept.chance
        ),
        "probe_content": Finding("… by content latents (leakage)", share(leaked.correct), leaked.chance),
        "probe_covariance": Finding("… by how these vary together", share(together.correct), together.chance),
    }
