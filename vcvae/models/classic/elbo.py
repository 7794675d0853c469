"""The log-likelihood of x under a VAE: the lower bound that it is trained on, a tighter estimate, and their gap.

For any q(z | x), with w = p(x | z) p(z) / q(z | x):

    ln p(x) = ln E_q w  ≥  E_q ln w = E_q ln p(x | z) − KL(q(z | x) ‖ p(z))

and the two differ by KL(q(z | x) ‖ p(z | x)), the error of the encoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vcvae.models.distributions import Gaussian, Likelihood


class Density(Protocol):
    """A model with a bound: its encoder gives a Gaussian, its decoder a likelihood, and N(0, I) is the prior."""

    def encode(self, x: Tensor) -> Gaussian: ...

    def decode(self, code: Tensor, shape: torch.Size) -> Likelihood: ...


@dataclass(frozen=True)
class Bound:
    """In nats, of each item, (batch,): the lower bound, and the importance-weighted estimate of ln p(x)."""

    elbo: Tensor
    log_likelihood: Tensor

    @property
    def gap(self) -> Tensor:
        """An estimate from below of KL(q(z | x) ‖ p(z | x))."""
        return self.log_likelihood - self.elbo


@torch.no_grad()
def bound(model: Density, x: Tensor, *, samples: int = 64) -> Bound:
    """The bound at x (batch, …), by `samples` draws from the posterior.

    The estimate of ln p(x) is the importance-weighted bound of Burda et al. 2016 (arXiv:1509.00519, eq. 8): never too
    high on average, and the nearer the more samples. The lower bound is the mean of ln w, not of ln p(x | z) less the
    closed form of the KL: their means are equal, and ln w has no variance where q(z | x) is the true posterior.
    """
    posterior = model.encode(x)
    log_weights = torch.stack([log_weight(model, posterior, posterior.sample(), x) for _ in range(samples)])
    return Bound(log_weights.mean(dim=0), log_weights.logsumexp(dim=0) - math.log(samples))


def log_weight(model: Density, posterior: Gaussian, code: Tensor, x: Tensor) -> Tensor:
    """ln w = ln p(x | z) + ln p(z) − ln q(z | x) at z = `code`, (batch,) in nats."""
    likelihood = model.decode(code, x.shape).log_probability(x)
    # The normalizers of p(z) and q(z | x) differ by the log-variance alone.
    standard = (code - posterior.mean) * torch.exp(-0.5 * posterior.log_variance)
    prior = 0.5 * (standard.square() - code.square() + posterior.log_variance)
    return likelihood.flatten(1).sum(dim=1) + prior.flatten(1).sum(dim=1)
