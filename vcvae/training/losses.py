"""The loss terms of all training tasks: functions of tensors that return a scalar."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.features.f0 import F0_BINS, F0Contour, to_bins
from vcvae.models.distributions import Gaussian


def reconstruction(decoded: Tensor, mel: Tensor, valid_bands: Tensor) -> Tensor:
    """Mean |x̂ − x| over the valid bands: up to constants, the negative log-likelihood of a Laplace decoder.

    Log-mels (batch, n_mels, frames); `valid_bands` (batch, n_mels) is 1 below the recording's bandwidth, else 0.
    """
    error = (decoded - mel).abs().mean(dim=2)
    return (error * valid_bands).sum() / valid_bands.sum()


def kl(posterior: Gaussian) -> Tensor:
    """KL divergence to the prior in nats per latent frame, mean over batch and frames."""
    return posterior.kl().sum(dim=1).mean()


def contrastive(embeddings: Tensor, speakers: Tensor, *, temperature: float) -> Tensor:
    """Supervised contrastive loss: embeddings of one speaker attract each other and repel those of other speakers.

    Embeddings (batch, dimensions) of unit length, speaker numbers (batch,). Khosla et al. 2020 (arXiv:2004.11362,
    eq. 2).
    """
    itself = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    similarity = (embeddings @ embeddings.T / temperature).masked_fill(itself, -torch.inf)
    log_probability = similarity - similarity.logsumexp(dim=1, keepdim=True)
    partner = (speakers[:, None] == speakers[None, :]) & ~itself
    return -(log_probability.masked_fill(~partner, 0).sum(dim=1) / partner.sum(dim=1).clamp(min=1)).mean()


def aam_softmax(
    embeddings: Tensor, speakers: Tensor, prototypes: Tensor, *, scale: float, margin: float = 0.0
) -> Tensor:
    """Additive angular margin softmax: speaker classification among all training speakers.

    Embeddings (batch, dimensions) of unit length; speakers (batch,), row numbers of prototypes (speakers, dimensions);
    `scale` of the cosines; `margin` in radians. Deng et al. 2019 (ArcFace, arXiv:1801.07698, eq. 3).
    """
    cosine = (embeddings @ F.normalize(prototypes, dim=1).T).float()
    angle = cosine.gather(1, speakers[:, None]).clamp(-1 + 1e-6, 1 - 1e-6).arccos()
    with_margin = cosine.scatter(1, speakers[:, None], (angle + margin).clamp(max=math.pi).cos())
    return F.cross_entropy(scale * with_margin, speakers)


def f0(scores: Tensor, voiced: Tensor, measured: F0Contour) -> Tensor:
    """Cross-entropy of the F0 bins in voiced frames, plus binary cross-entropy of voicing in all frames.

    Scores (batch, frames, bins) and voiced (batch, frames) are logits; `measured` is the target, from YIN.
    """
    offsets = torch.arange(F0_BINS, device=scores.device) - to_bins(measured.log_f0).unsqueeze(-1)
    target = torch.exp(-0.5 * offsets.square())
    target = target / target.sum(dim=-1, keepdim=True)
    cross_entropy = -(target * scores.log_softmax(dim=-1)).sum(dim=-1)
    bin_loss = (cross_entropy * measured.voicing).sum() / measured.voicing.sum().clamp(min=1)
    return bin_loss + F.binary_cross_entropy_with_logits(voiced, measured.voicing)


def f0_l1(contour: F0Contour, measured: F0Contour) -> Tensor:
    """Mean |log2 F0 difference| in octaves over voiced frames, which refines the contour below the width of a bin.

    Differences of more than a quarter of an octave are not counted: they are the classification loss's to correct.
    """
    error = (contour.log_f0 - measured.log_f0).abs()
    counted = measured.voicing * (error < 0.25)
    return (error * counted).sum() / counted.sum().clamp(min=1)


def content_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of content latents (batch, latent, frames), in units of the prior's variance."""
    return (predicted - target).square().mean()


def discriminator_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Least-squares loss of discriminators: real scores towards 1, fake scores towards 0.

    One tensor of scores for each discriminator or kind of input; all have the same weight. Mao et al. 2017 (LSGAN,
    arXiv:1611.04076).
    """
    return generator_loss(real) + torch.stack([score.square().mean() for score in fake]).mean()


def generator_loss(fake: list[Tensor]) -> Tensor:
    """Least-squares loss of the generator: fake scores towards 1 (LSGAN)."""
    return torch.stack([(1 - score).square().mean() for score in fake]).mean()


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """L1 distance of the discriminator features of real and generated inputs, relative to those of the real ones.

    One tensor for each layer. Larsen et al. 2016 (arXiv:1512.09300); relative, as in Défossez et al. 2022
    (arXiv:2210.13438, eq. 5).
    """
    terms = []
    for a, b in zip(real, fake, strict=True):
        scale = a.detach().abs().mean().clamp(min=1e-6)
        terms.append((a.detach() - b).abs().mean() / scale)
    return torch.stack(terms).mean()
