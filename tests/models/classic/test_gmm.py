import pytest
import torch
from sklearn.mixture import GaussianMixture as Reference

from vcvae.errors import VcvaeError
from vcvae.models.classic.gmm import GaussianMixture


def clouds(count=900):
    """Points of three Gaussians."""
    torch.manual_seed(0)
    shape = torch.tensor([[1.0, 0.0], [0.8, 0.4]])
    means = torch.tensor([[-5.0, 0.0], [0.0, 5.0], [6.0, -2.0]])
    which = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), count, replacement=True)
    return means[which] + torch.randn(count, 2) @ shape.T


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_gmm_density_is_that_of_scikit_learn(covariance):
    frames = clouds()
    mixture = GaussianMixture.fit(frames, components=3, covariance=covariance, seed=1)
    kind = {"full": "full", "diagonal": "diag"}[covariance]
    reference = Reference(3, covariance_type=kind, reg_covar=1e-3, random_state=1).fit(frames.double().numpy())
    expected = torch.from_numpy(reference.score_samples(frames.double().numpy())).float()
    torch.testing.assert_close(mixture.log_probability(frames), expected, atol=1e-3, rtol=1e-3)
    expected = torch.from_numpy(reference.predict_proba(frames.double().numpy())).float()
    torch.testing.assert_close(mixture.responsibilities(frames), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_gmm_samples_have_the_fitted_distribution(covariance):
    mixture = GaussianMixture.fit(clouds(), components=3, covariance=covariance)
    samples = mixture.sample(50_000)
    again = GaussianMixture.fit(samples[:5000], components=3, covariance=covariance)
    fresh = mixture.sample(20_000)
    assert abs((mixture.log_probability(fresh) - again.log_probability(fresh)).mean()) < 0.01
    spread = mixture.factors @ mixture.factors.mT if covariance == "full" else torch.diag_embed(mixture.factors**2)
    mean = mixture.weights @ mixture.means
    centred = mixture.means - mean
    total = (mixture.weights[:, None, None] * (spread + centred[:, :, None] * centred[:, None, :])).sum(0)
    torch.testing.assert_close(samples.mean(0), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(samples.T.cov(), total, atol=0.3, rtol=0.02)


def test_gmm_of_more_components_is_likelier_on_unseen_frames():
    frames, unseen = clouds(3000)[:2000], clouds(3000)[2000:]
    likelihoods = [GaussianMixture.fit(frames, components=k).log_probability(unseen).mean().item() for k in (1, 2, 3)]
    assert likelihoods[0] < likelihoods[1] < likelihoods[2]


def test_gmm_is_the_same_after_saving_and_loading(tmp_path):
    frames = clouds()
    mixture = GaussianMixture.fit(frames, components=3)
    mixture.save_pretrained(tmp_path)
    loaded = GaussianMixture.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.log_probability(frames), mixture.log_probability(frames))


def test_gmm_fit_refuses_bad_frames_in_one_sentence():
    with pytest.raises(VcvaeError, match="2 frames are too few for 3 components"):
        GaussianMixture.fit(torch.randn(2, 4), components=3)
    with pytest.raises(VcvaeError, match=r"\(count, dimensions\), not \(5,\)"):
        GaussianMixture.fit(torch.randn(5), components=2)
    with pytest.raises(VcvaeError, match="not finite"):
        GaussianMixture.fit(torch.full((9, 2), torch.nan), components=2)
