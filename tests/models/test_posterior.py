import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vcvae.models.distributions import Gaussian, Point


def test_gaussian_kl_is_that_of_torch_distributions():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    expected = kl_divergence(Normal(mean, torch.exp(log_variance / 2)), Normal(0.0, 1.0))
    torch.testing.assert_close(Gaussian(mean, log_variance).kl(), expected)


def test_gaussian_samples_have_its_mean_and_variance():
    torch.manual_seed(0)
    posterior = Gaussian(torch.full((200_000,), 1.5), torch.full((200_000,), 0.7))
    z = posterior.sample()
    assert z.mean().item() == pytest.approx(1.5, abs=0.02)
    assert z.var().log().item() == pytest.approx(0.7, abs=0.02)


def test_gaussian_sample_gradients_are_the_finite_differences():
    mean = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    log_variance = torch.tensor([-0.8], dtype=torch.float64, requires_grad=True)

    def sample(m, s):
        torch.manual_seed(1)
        return Gaussian(m, s).sample().sin()

    assert torch.autograd.gradcheck(sample, (mean, log_variance))


def test_gaussian_bounded_limits_mean_variance_and_kl():
    statistics = 1e6 * torch.randn(2, 8, 10, generator=torch.Generator().manual_seed(0))
    posterior = Gaussian.bounded(statistics, mean_bound=6.0, log_variance_bound=5.0)
    largest = 0.5 * (torch.tensor(5.0).exp() - 1 + 5 + 36)
    assert posterior.kl().max() <= largest + 1e-3
    small = 1e-3 * statistics / statistics.abs().max()
    near_zero = Gaussian.bounded(small, mean_bound=6.0, log_variance_bound=5.0)
    torch.testing.assert_close(torch.cat([near_zero.mean, near_zero.log_variance], dim=1), small)


def test_point_is_its_own_sample():
    x = torch.randn(3)
    assert Point(x).sample() is x
