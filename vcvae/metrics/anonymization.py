"""How well speakers are hidden, and how well they can still be told apart, by the embeddings of a verifier."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcvae.errors import VcvaeError
from vcvae.metrics.speakers import equal_error_rate

Embeddings = NDArray[np.floating]  # (utterances, values), of unit length


def trial_scores(
    enrolment: Embeddings, enrolled: Sequence[str], trials: Embeddings, speakers: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """The scores of genuine and of impostor trials: each trial against the mean embedding of each enrolled speaker.

    Args:
        enrolment: of the utterances that are enrolled.
        enrolled: the speaker of each of these.
        trials: of the utterances that are tried.
        speakers: the speaker of each of these.

    Raises:
        VcvaeError: there are no genuine trials, or no impostors.
    """
    names = sorted(set(enrolled))
    means = np.stack([enrolment[np.asarray(enrolled) == name].mean(axis=0) for name in names])
    means /= np.linalg.norm(means, axis=1, keepdims=True).clip(1e-9)
    scores = torch.from_numpy(np.asarray(trials @ means.T, np.float64))
    same = torch.from_numpy(np.asarray(speakers)[:, None] == np.asarray(names)[None])
    if not same.any() or same.all():
        raise VcvaeError("verification needs two speakers or more, and an enrolled and another utterance of each.")
    return scores[same], scores[~same]


def verification_error(
    enrolment: Embeddings, enrolled: Sequence[str], trials: Embeddings, speakers: Sequence[str]
) -> float:
    """The equal error rate of `trial_scores`; an attacker who learns nothing has .5."""
    return equal_error_rate(*trial_scores(enrolment, enrolled, trials, speakers))


def voice_distinctiveness_gain(original: Embeddings, anonymized: Embeddings, speakers: Sequence[str]) -> float:
    """The gain of voice distinctiveness G_VD in dB: 0 where voices differ as much as before, and negative for less.

    Noé et al. 2020 (arXiv:2008.13144). Their log-likelihood ratio is here a logistic regression of the cosine, fitted
    to pairs of original utterances; speakers of one utterance are left out.

    Args:
        original: of the utterances.
        anonymized: of the same utterances, in the same order.
        speakers: of each.

    Raises:
        VcvaeError: fewer than two speakers of two utterances or more.
    """
    from sklearn.linear_model import LogisticRegression

    names = np.asarray(speakers)
    kept = np.array([(names == name).sum() > 1 for name in names], bool)
    original, anonymized, names = original[kept], anonymized[kept], names[kept]
    if len(set(names)) < 2:
        raise VcvaeError("the distinctiveness of voices needs two speakers or more of two utterances or more.")
    pairs = np.triu_indices(len(names), 1)
    same = names[pairs[0]] == names[pairs[1]]
    cosines = (original @ original.T)[pairs]
    model = LogisticRegression(C=1e6, class_weight="balanced").fit(cosines[:, None], same)

    def dominance(embeddings: Embeddings) -> float:
        ratio = (embeddings @ embeddings.T) * float(model.coef_[0, 0]) + float(model.intercept_[0])
        return _diagonal_dominance(_similarity_matrix(ratio, names))

    before, after = dominance(original), dominance(anonymized)
    return 10 * math.log10(max(after, 1e-9) / max(before, 1e-9))


def _similarity_matrix(ratios: Embeddings, names: NDArray) -> Embeddings:
    """Log-likelihood ratios of utterances (utterances, utterances) → similarities of speakers (speakers, speakers)."""
    distinct = sorted(set(names))
    other = ~np.eye(len(names), dtype=bool)
    matrix = np.empty((len(distinct), len(distinct)))
    for i, a in enumerate(distinct):
        for j, b in enumerate(distinct):
            chosen = (names == a)[:, None] & (names == b)[None] & other
            matrix[i, j] = 1 / (1 + math.exp(-float(np.clip(ratios[chosen].mean(), -500, 500))))
    return matrix


def _diagonal_dominance(matrix: Embeddings) -> float:
    """How far the mean of the diagonal is from that of the rest."""
    off = ~np.eye(len(matrix), dtype=bool)
    return abs(float(np.diag(matrix).mean() - matrix[off].mean()))
