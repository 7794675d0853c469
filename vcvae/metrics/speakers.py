"""How much latents tell of who speaks: much is asked of the speaker's, and nothing of the content's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcvae.errors import VcvaeError


def equal_error_rate(genuine: Tensor, impostor: Tensor) -> float:
    """The share of genuine trials (any,) below, and of impostors' (any,) above, the score where the two are equal."""
    thresholds = torch.cat([genuine, impostor]).sort().values
    missed = torch.searchsorted(genuine.sort().values, thresholds) / len(genuine)
    accepted = 1 - torch.searchsorted(impostor.sort().values, thresholds) / len(impostor)
    nearest = (missed - accepted).abs().argmin()
    return ((missed + accepted)[nearest] / 2).item()


@dataclass(frozen=True)
class Retrieval:
    """How well the nearest latents are the same speaker's: the equal error rate, and `correct`, of each utterance,
    whether its nearest other is its speaker's, which is so by `chance` where latents tell nothing.
    """

    equal_error_rate: float
    correct: tuple[bool, ...]
    chance: float


def retrieval(latents: Sequence[NDArray[np.floating]], speakers: Sequence[str]) -> Retrieval:
    """Find each utterance's speaker by the nearest other utterance: cosines of their speaker latents.

    Args:
        latents: one an utterance, (latent,), of unit length.
        speakers: who says each.

    Raises:
        VcvaeError: fewer than two speakers, or one with a single utterance.
    """
    numbers, _ = _numbered(speakers)
    vectors = torch.from_numpy(np.stack(latents))
    similarity = vectors @ vectors.T
    same = torch.from_numpy(numbers[:, None] == numbers[None, :])
    other = ~torch.eye(len(numbers), dtype=torch.bool)
    nearest = similarity.masked_fill(~other, -torch.inf).argmax(dim=1)
    pair = other.triu()  # each pair once
    return Retrieval(
        equal_error_rate(similarity[same & pair], similarity[~same & pair]),
        tuple(same[torch.arange(len(numbers)), nearest].tolist()),
        float((same & other).sum() / other.sum()),
    )


def _numbered(speakers: Sequence[str]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The number of each utterance's speaker, and how many utterances each speaker has."""
    names, numbers, counts = np.unique(np.asarray(speakers), return_inverse=True, return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        raise VcvaeError("to find speakers needs two of them or more, and two utterances or more of each.")
    return numbers, counts


@dataclass(frozen=True)
class Probe:
    """The share of unseen utterances whose speaker a linear classifier names, and what guessing gives."""

    accuracy: float
    chance: float
    correct: tuple[bool, ...] = ()  # of each unseen utterance


def probe(latents: Sequence[NDArray[np.floating]], speakers: Sequence[str]) -> Probe:
    """Name the speaker of an utterance by a linear classifier of its latents' mean and spread over time.

    Every second utterance of each speaker is learned from, the others are named. What disentangles a content latent
    from its speaker brings the accuracy down to chance; for a speaker latent it is near 1.

    Args:
        latents: one an utterance, (latent, frames), or (latent,) where there is no time.
        speakers: who says each.

    Raises:
        VcvaeError: fewer than two speakers, or one with a single utterance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers, counts = _numbered(speakers)
    features = np.stack(
        [np.concatenate([x.mean(axis=1), x.std(axis=1)]) if x.ndim == 2 else x for x in map(np.asarray, latents)]
    )
    order = np.zeros(len(numbers), int)
    for number in range(len(counts)):
        order[numbers == number] = np.arange(counts[number])
    learn = order % 2 == 0
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(features[learn], numbers[learn])
    named = classifier.predict(features[~learn])
    # Guessing at best names the most frequent speaker.
    chance = np.bincount(numbers[~learn]).max() / (~learn).sum()
    correct = named == numbers[~learn]
    return Probe(float(correct.mean()), float(chance), tuple(correct.tolist()))


def covariances(latents: Sequence[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
    """How the dimensions of each utterance's latents (latent, frames) vary together: (latent · (latent + 1) / 2,) each.

    What is left to a probe where mean and spread are the same for all utterances.
    """
    return [np.cov(one)[np.triu_indices(len(one))] for one in latents]
