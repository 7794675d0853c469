"""Probabilistic PCA is the VAE with a closed form of every quantity: x = W z + m + σ ε with z and ε standard normal."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vcvae.models.classic.autoencoder import VAE, AutoEncoderConfig
from vcvae.models.classic.elbo import bound, log_weight
from vcvae.models.distributions import Gaussian, Normal

SIGMA = 0.6


@dataclass
class LinearGaussian:
    """W has orthogonal columns, so that the true posterior is a diagonal Gaussian; `shift` and `stretch` spoil it."""

    weight: torch.Tensor
    mean: torch.Tensor
    shift: float = 0.0
    stretch: float = 0.0

    def encode(self, x):
        precision = self.weight.square().sum(0) + SIGMA**2
        mean = (x - self.mean) @ self.weight / precision
        log_variance = torch.log(SIGMA**2 / precision).expand_as(mean)
        return Gaussian(mean + self.shift, log_variance + self.stretch)

    def decode(self, code, shape):
        mean = code @ self.weight.T + self.mean
        return Normal(mean, torch.full_like(mean, SIGMA).log())

    def log_likelihood(self, x):
        covariance = self.weight @ self.weight.T + SIGMA**2 * torch.eye(len(self.mean))
        return torch.distributions.MultivariateNormal(self.mean, covariance).log_prob(x)


@pytest.fixture
def case():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield torch.linalg.qr(torch.randn(5, 2))[0] * torch.tensor([1.5, 0.7]), torch.randn(5), torch.randn(4, 5)
    torch.set_default_dtype(torch.float32)


def test_bound_with_the_true_posterior_is_the_likelihood(case):
    weight, mean, x = case
    model = LinearGaussian(weight, mean)
    actual = bound(model, x, samples=3)
    torch.testing.assert_close(actual.elbo, model.log_likelihood(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(actual.log_likelihood, model.log_likelihood(x), atol=1e-10, rtol=0)
    assert actual.gap.abs().max() < 1e-10


def normal(posterior):
    return torch.distributions.Normal(posterior.mean, torch.exp(0.5 * posterior.log_variance))


def test_gap_with_a_wrong_encoder_is_the_kl_to_the_true_posterior(case):
    weight, mean, x = case
    model, true = LinearGaussian(weight, mean, shift=0.05, stretch=0.1), LinearGaussian(weight, mean)
    kl = torch.distributions.kl_divergence(normal(model.encode(x)), normal(true.encode(x))).sum(1)
    # ln w is quadratic in z here, so a few nodes of Gauss and Hermite give its mean exactly.
    nodes, weights = map(torch.tensor, np.polynomial.hermite_e.hermegauss(4))
    noise = torch.cartesian_prod(nodes, nodes)
    share = torch.cartesian_prod(weights, weights).prod(1) / weights.sum() ** 2
    for i in range(len(x)):
        one = model.encode(x[i : i + 1])
        posterior = Gaussian(one.mean.expand(16, -1), one.log_variance.expand(16, -1))
        code = posterior.mean + torch.exp(0.5 * posterior.log_variance) * noise
        elbo = (share * log_weight(model, posterior, code, x[i].expand(16, -1))).sum()
        assert (model.log_likelihood(x[i]) - elbo).item() == pytest.approx(kl[i].item(), abs=1e-10)


def test_log_likelihood_of_more_samples_closes_the_gap(case):
    weight, mean, x = case
    model = LinearGaussian(weight, mean, shift=0.4, stretch=0.5)
    actual = bound(model, x, samples=20_000)
    assert (actual.gap > 0.05).all()
    torch.testing.assert_close(actual.log_likelihood, model.log_likelihood(x), atol=0.02, rtol=0)


def test_bound_of_the_training_loss_is_the_reported_one():
    torch.manual_seed(0)
    model = VAE(AutoEncoderConfig(backbone="vector", inputs=6, latent=2, channels=8, blocks=1, mean=0.0, std=1.0))
    x = torch.randn(3, 6)
    posterior = model.encode(x)
    draws = [model.decode(posterior.sample(), x.shape).log_probability(x).sum(1) for _ in range(4000)]
    closed = torch.stack(draws).mean(0) - posterior.kl().sum(1)
    torch.testing.assert_close(bound(model, x, samples=4000).elbo, closed, atol=0.15, rtol=0)
