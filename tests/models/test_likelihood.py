import pytest
import torch

from vcvae.models.distributions import LIKELIHOODS


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood_densities_are_those_of_torch(name):
    torch.manual_seed(0)
    mean, log_scale, x = torch.randn(3, 5, 4)
    reference = {"laplace": torch.distributions.Laplace, "normal": torch.distributions.Normal}[name]
    ours = LIKELIHOODS[name](mean, log_scale)
    torch.testing.assert_close(ours.log_probability(x), reference(mean, log_scale.exp()).log_prob(x))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood_samples_have_its_mean_and_scale(name):
    torch.manual_seed(0)
    n = 200_000
    samples = LIKELIHOODS[name](torch.full((n,), 2.0), torch.full((n,), 0.5)).sample()
    assert samples.mean().item() == pytest.approx(2.0, abs=0.03)
    deviation = {"laplace": 2**0.5, "normal": 1.0}[name] * torch.tensor(0.5).exp().item()
    assert samples.std().item() == pytest.approx(deviation, rel=0.01)
