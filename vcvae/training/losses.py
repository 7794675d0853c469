"""The terms of the training objective, each a plain function of tensors that returns one number."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.features.f0 import BINS, F0Contour, bins
from vcvae.models.distributions import Gaussian


def reconstruction(decoded: Tensor, mel: Tensor, valid_bands: Tensor) -> Tensor:
    """Mean |x̂ − x| over the valid_bands bands: minus the log-likelihood of a Laplace decoder of fixed scale, up to constants.

    Mels (batch, n_mels, frames); `valid_bands` (batch, n_mels) is 1 where the recording's bandwidth reaches.
    """
    error = (decoded - mel).abs().mean(dim=2)
    return (error * valid_bands).sum() / valid_bands.sum()


def kl(posterior: Gaussian) -> Tensor:
    """KL to the prior in nats per latent frame, the mean over batch and frames."""
    return posterior.kl().sum(dim=1).mean()


def contrastive(latents: Tensor, speakers: Tensor, *, temperature: float) -> Tensor:
    """Latents of one speaker attract, those of others repel: cross-entropy of finding a partner among the batch.

    Latents (batch, latent) of unit length, speakers (batch,) numbers. Khosla et al. 2020 (arXiv:2004.11362, eq. 2).
    """
    itself = torch.eye(len(latents), dtype=torch.bool, device=latents.device)
    similarity = (latents @ latents.T / temperature).masked_fill(itself, -torch.inf)
    log_probability = similarity - similarity.logsumexp(dim=1, keepdim=True)
    partner = (speakers[:, None] == speakers[None, :]) & ~itself
    return -(log_probability.masked_fill(~partner, 0).sum(dim=1) / partner.sum(dim=1).clamp(min=1)).mean()


def aam_softmax(latents: Tensor, speakers: Tensor, prototypes: Tensor, *, scale: float, margin: float = 0.0) -> Tensor:
    """Cross-entropy of telling who speaks among all speakers, made harder by an angle between right and wrong.

    Latents (batch, latent) of unit length, speakers (batch,) numbers of rows of prototypes (speakers, latent), `margin`
    in radians. Deng et al. 2019 (ArcFace, arXiv:1801.07698, eq. 3).
    """
    cosine = (latents @ F.normalize(prototypes, dim=1).T).float()
    angle = cosine.gather(1, speakers[:, None]).clamp(-1 + 1e-6, 1 - 1e-6).arccos()
    harder = cosine.scatter(1, speakers[:, None], (angle + margin).clamp(max=math.pi).cos())
    return F.cross_entropy(scale * harder, speakers)


def f0(scores: Tensor, voiced: Tensor, measured: F0Contour) -> Tensor:
    """Cross-entropy of the f0 bins where voiced, and of being voiced everywhere.

    Scores (batch, frames, bins) and voiced (batch, frames) are logits.
    """
    offsets = torch.arange(BINS, device=scores.device) - bins(measured.log_f0).unsqueeze(-1)
    target = torch.exp(-0.5 * offsets.square())
    target = target / target.sum(dim=-1, keepdim=True)
    cross_entropy = -(target * scores.log_softmax(dim=-1)).sum(dim=-1)
    place = (cross_entropy * measured.voicing).sum() / measured.voicing.sum().clamp(min=1)
    return place + F.binary_cross_entropy_with_logits(voiced, measured.voicing)


def f0_l1(contour: F0Contour, measured: F0Contour) -> Tensor:
    """Mean |difference| in octaves where voiced, for a contour that is true to cents and not only to a bin.

    Differences of more than a quarter of an octave are not counted: which bin it is, is the classifier's question.
    """
    error = (contour.log_f0 - measured.log_f0).abs()
    counted = measured.voicing * (error < 0.25)
    return (error * counted).sum() / counted.sum().clamp(min=1)


def content_mse(heard: Tensor, said: Tensor) -> Tensor:
    """Mean squared distance of two content latents (batch, latent, frames), in units of the prior's variance."""
    return (heard - said).square().mean()


def discriminator_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """What discriminators descend: scores of 1 for the real and of 0 for the fake. Mao et al. 2017 (LSGAN, arXiv:1611.04076).

    One tensor of scores a discriminator, or a kind of what is real or fake; each counts the same.
    """
    return generator_loss(real) + torch.stack([score.square().mean() for score in fake]).mean()


def generator_loss(fake: list[Tensor]) -> Tensor:
    """What the generator descends: the fake given a score of 1."""
    return torch.stack([(1 - score).square().mean() for score in fake]).mean()


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """L1 of discriminators' features of a copy and of its original, in units of the original's mean magnitude.

    One tensor a layer. Larsen et al. 2016 (arXiv:1512.09300); relative, as in Défossez et al. 2022 (arXiv:2210.13438,
    eq. 5).
    """
    terms = [
        (a.detach() - b).abs().mean() / a.detach().abs().mean().clamp(min=1e-6) for a, b in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()
