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
class Probe:
    """The share of unseen utterances whose speaker a linear classifier names, and what guessing gives."""

    accuracy: float
    chance: float


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

    names, numbers, counts = np.unique(np.asarray(speakers), return_inverse=True, return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        raise VcvaeError("a probe for speakers needs two of them or more, and two utterances or more of each.")
    features = np.stack(
        [np.concatenate([x.mean(axis=1), x.std(axis=1)]) if x.ndim == 2 else x for x in map(np.asarray, latents)]
    )
    order = np.zeros(len(numbers), int)
    for number in range(len(names)):
        order[numbers == number] = np.arange(counts[number])
    learn = order % 2 == 0
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(features[learn], numbers[learn])
    named = classifier.predict(features[~learn])
    # Guessing at best names the most frequent speaker.
    chance = np.bincount(numbers[~learn]).max() / (~learn).sum()
    return Probe(float((named == numbers[~learn]).mean()), float(chance))
