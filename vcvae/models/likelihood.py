"""What a decoder gives out: the distribution of x given z, whose mean is the copy and whose width says how sure it is.

With a width that is learned, a bound is in nats and can be compared between models; with a width that is fixed, minus
the log-likelihood is a plain distance (L1 for Laplace, squared error for Normal) up to constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Laplace:
    """Independent Laplace distributions, mean and log_scale of one shape: density exp(−|x − μ| / b) / 2b, b = exp λ.

    Log-mels have it rather than the normal: most errors are small, and onsets make a few large ones.
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
        return self.mean + torch.exp(self.log_scale) * torch.randn_like(self.mean)


LIKELIHOODS = {"laplace": Laplace, "normal": Normal}
Likelihood = Laplace | Normal
