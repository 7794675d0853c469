"""Speaker information in latents: equal error rate, retrieval, and probes that measure leakage into the content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcvae.errors import VcvaeError


class EqualError(NamedTuple):
    """The threshold where misses of genuine trials and false acceptances of impostors are equal, and their rate."""

    rate: float
    threshold: float


def equal_error(genuine: Tensor, impostor: Tensor) -> EqualError:
    """The equal error of scores (trials,) each, higher for the same speaker; at the threshold or above is accepted."""
    thresholds = torch.cat([genuine, impostor]).sort().values
    missed = torch.searchsorted(genuine.sort().values, thresholds) / len(genuine)
    accepted = 1 - torch.searchsorted(impostor.sort().values, thresholds) / len(impostor)
    nearest = (missed - accepted).abs().argmin()
    # All thresholds down to the next lower score have the same errors: the middle is taken.
    threshold = thresholds[max(0, nearest - 1) : nearest + 1].mean()
    return EqualError(((missed + accepted)[nearest] / 2).item(), threshold.item())


def equal_error_rate(genuine: Tensor, impostor: Tensor) -> float:
    """The rate of `equal_error`."""
    return equal_error(genuine, impostor).rate


@dataclass(frozen=True)
class Retrieval:
    """Equal error rate; whether the nearest other utterance of each is by the same speaker; the chance of that."""

    equal_error_rate: float
    correct: tuple[bool, ...]
    chance: float


def retrieval(latents: Sequence[NDArray[np.floating]], speakers: Sequence[str]) -> Retrieval:
    """Compare speaker latents by their cosines: equal error rate, and nearest other utterance of each.

    Args:
        latents: one per utterance, (latent,), of unit length.
        speakers: the speaker of each utterance.

    Raises:
        VcvaeError: fewer than two speakers, or one with a single utterance.
    """
    numbers, _ = _number_speakers(speakers)
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


def _number_speakers(speakers: Sequence[str]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Speaker number of each utterance, and number of utterances of each speaker."""
    names, numbers, counts = np.unique(np.asarray(speakers), return_inverse=True, return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        raise VcvaeError("speaker retrieval and probes need two speakers or more, and two utterances or more of each.")
    return numbers, counts


@dataclass(frozen=True)
class Probe:
    """Accuracy of a linear speaker classifier on held-out utterances, and that of guessing."""

    accuracy: float
    chance: float
    correct: tuple[bool, ...] = ()  # of each held-out utterance


def probe(latents: Sequence[NDArray[np.floating]], speakers: Sequence[str]) -> Probe:
    """Classify speakers by a linear classifier of the latents' mean and standard deviation over time.

    Every second utterance of each speaker is used for training, the others for testing. The accuracy is at chance for a
    content latent without speaker information, and near 1 for a speaker latent.

    Args:
        latents: one per utterance, (latent, frames), or (latent,) without time.
        speakers: the speaker of each utterance.

    Raises:
        VcvaeError: fewer than two speakers, or one with a single utterance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers, counts = _number_speakers(speakers)
    features = np.stack(
        [np.concatenate([x.mean(axis=1), x.std(axis=1)]) if x.ndim == 2 else x for x in map(np.asarray, latents)]
    )
    order = np.zeros(len(numbers), int)
    for number in range(len(counts)):
        order[numbers == number] = np.arange(counts[number])
    is_training = order % 2 == 0
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(features[is_training], numbers[is_training])
    predicted = classifier.predict(features[~is_training])
    # The best guess is the most frequent speaker.
    chance = np.bincount(numbers[~is_training]).max() / (~is_training).sum()
    correct = predicted == numbers[~is_training]
    return Probe(float(correct.mean()), float(chance), tuple(correct.tolist()))


def covariances(latents: Sequence[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
    """The covariances of each utterance's latents (latent, frames) over time: (latent · (latent + 1) / 2,) each.

    The input of a probe for speaker information beyond mean and standard deviation.
    """
    return [np.cov(one)[np.triu_indices(len(one))] for one in latents]
