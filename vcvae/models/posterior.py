"""What an encoder gives out: a distribution over latents, from which one samples and whose KL to the prior is known.

A note on notation: throughout, s is the log *variance*, so z = μ + exp(s / 2)·ε and
KL = ½ Σ (exp s − 1 − s + μ²). (Texts that write z = μ + exp(σ)·ε mean a log standard deviation; never mix the two.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def squash(x: Tensor, bound: float) -> Tensor:
    """What stays within ± bound, softly: near zero it is x itself."""
    return bound * torch.tanh(x / bound)


@dataclass(frozen=True)
class Point:
    """A deterministic latent: a posterior without width. `mean` has any shape."""

    mean: Tensor

    def sample(self) -> Tensor:
        return self.mean


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian with `mean` and `log_variance` of one shape; the prior is the standard normal."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def bounded(cls, statistics: Tensor, *, mean_bound: float, log_variance_bound: float) -> Gaussian:
        """Split `statistics` (batch, 2 · latent, frames) into a mean and a log-variance that cannot run away.

        Both are squashed softly, |μ| < mean_bound and |s| < log_variance_bound, so the KL of one dimension stays
        below ½ (exp S − 1 + S + M²) whatever the network does. Near zero both are the identity.
        """
        mean, log_variance = statistics.chunk(2, dim=1)
        return cls(squash(mean, mean_bound), squash(log_variance, log_variance_bound))

    def sample(self) -> Tensor:
        """z = μ + exp(s / 2)·ε, differentiable in μ and s (Kingma & Welling 2014, arXiv:1312.6114, eq. 10)."""
        return self.mean + torch.exp(0.5 * self.log_variance) * torch.randn_like(self.mean)

    def kl(self) -> Tensor:
        """KL(N(μ, exp s) ‖ N(0, 1)) in nats, element by element (ibid., appendix B)."""
        return 0.5 * (self.log_variance.exp() - 1 - self.log_variance + self.mean.square())
