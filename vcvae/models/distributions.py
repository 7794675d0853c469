"""The distributions that encoders and decoders give: of the latent given x (sampling, KL), and of x given the latent.

A note on notation: throughout, s is the log *variance*, so z = μ + exp(s / 2)·ε and
KL = ½ Σ (exp s − 1 − s + μ²). (Texts that write z = μ + exp(σ)·ε mean a log standard deviation; never mix the two.)

A decoder gives a likelihood of x given the latent. With a learned scale, a bound is in nats and models can be compared;
with a fixed one, minus the log-likelihood is a distance (L1 for Laplace, squared error for Normal) up to constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def squash(x: Tensor, bound: float) -> Tensor:
    """Limit x to ± bound by a tanh with slope 1 at zero."""
    return bound * torch.tanh(x / bound)


@dataclass(frozen=True)
class Point:
    """A deterministic latent, a posterior of zero variance. `mean` has any shape."""

    mean: Tensor

    def sample(self) -> Tensor:
        """The point itself."""
        return self.mean


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian with `mean` and `log_variance` of one shape; the prior is the standard normal."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def bounded(cls, statistics: Tensor, *, mean_bound: float, log_variance_bound: float) -> Gaussian:
        """Split `statistics` (batch, 2 · latent, frames) into a bounded mean and log-variance.

        |μ| < M = mean_bound and |s| < S = log_variance_bound by `squash`, so the KL of one dimension stays below
        ½ (exp S − 1 + S + M²) whatever the network gives.
        """
        mean, log_variance = statistics.chunk(2, dim=1)
        return cls(squash(mean, mean_bound), squash(log_variance, log_variance_bound))

    def sample(self) -> Tensor:
        """z = μ + exp(s / 2)·ε, differentiable in μ and s (Kingma & Welling 2014, arXiv:1312.6114, eq. 10)."""
        return self.mean + torch.exp(0.5 * self.log_variance) * torch.randn_like(self.mean)

    def kl(self) -> Tensor:
        """KL(N(μ, exp s) ‖ N(0, 1)) in nats, element by element (ibid., appendix B)."""
        return 0.5 * (self.log_variance.exp() - 1 - self.log_variance + self.mean.square())


@dataclass(frozen=True)
class Laplace:
    """Independent Laplace distributions, mean and log_scale of one shape: density exp(−|x − μ| / b) / 2b, b = exp λ.

    It fits the errors of log-mels better than the normal: most are small, and a few at onsets are large.
    """

    mean: Tensor
    log_scale: Tensor

    def log_probability(self, x: Tensor) -> Tensor:
        """ln p(x), element by element, in nats."""
        return -(x - self.mean).abs() * torch.exp(-self.log_scale) - self.log_scale - math.log(2)

    def sample(self) -> Tensor:
        """Differentiable: x = μ − b · sign(u) · ln(1 − |u|), u uniform in (−1, 1)."""
        u = 2 * torch.rand_like(self.mean) - 1
        return self.mean - torch.exp(self.log_scale) * u.sign() * torch.log1p(-u.abs())


@dataclass(frozen=True)
class Normal:
    """Independent normal distributions, `mean` and `log_scale` (ln of the standard deviation) of one shape."""

    mean: Tensor
    log_scale: Tensor

    def log_probability(self, x: Tensor) -> Tensor:
        """ln p(x), element by element, in nats."""
        standard = (x - self.mean) * torch.exp(-self.log_scale)
        return -0.5 * standard.square() - self.log_scale - 0.5 * math.log(2 * math.pi)

    def sample(self) -> Tensor:
        """Differentiable: x = μ + exp(λ)·ε, λ the log_scale."""
        return self.mean + torch.exp(self.log_scale) * torch.randn_like(self.mean)


LIKELIHOODS = {"laplace": Laplace, "normal": Normal}
Likelihood = Laplace | Normal
