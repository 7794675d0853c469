"""The prior of voices: what is drawn is spread as the speakers are, and is none of them."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion import prior as prior_module
from vcvae.models.conversion.prior import MAX_SIMILARITY, VoicePrior


@pytest.fixture(scope="module")
def prior():
    """Of 200 speakers in 16 dimensions of unequal width, women and men, who differ in the first and in F0."""
    torch.manual_seed(0)
    sex = torch.arange(200) % 2
    points = torch.randn(200, 16) * torch.linspace(1.0, 0.3, 16)
    points[:, 0] += 2.0 * sex - 1
    mean = torch.where(sex == 1, 7.6, 6.8) + 0.1 * torch.randn(200)
    statistics = F0Statistics(mean, torch.exp(0.2 * torch.randn(200) - 1.3))
    return VoicePrior.fit(F.normalize(points, dim=1), statistics, "0123456789abcdef")


def test_prior_keeps_the_spread_of_the_speakers(prior, monkeypatch):
    monkeypatch.setattr(prior_module, "MAX_SIMILARITY", 2.0)
    drawn = prior.sample(4000).embeddings
    ratio = drawn.std(dim=0) / prior.speakers.std(dim=0)
    assert 0.8 < float(ratio.min()) <= float(ratio.max()) < 1.25
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(len(drawn)))


def test_prior_draws_f0_together_with_the_embedding(prior):
    drawn = prior.sample(4000)
    women = drawn.embeddings[:, 0] > 0.3
    men = drawn.embeddings[:, 0] < -0.3
    assert drawn.f0_statistics.mean[women].mean() > 7.4
    assert drawn.f0_statistics.mean[men].mean() < 7.0
    assert (drawn.f0_statistics.std > 0).all()


def test_prior_leaves_out_what_is_near_a_training_speaker(prior):
    drawn = prior.sample(200)
    assert 0 < len(drawn.embeddings) < 200
    assert float((drawn.embeddings @ prior.speakers.mT).max()) < MAX_SIMILARITY


def test_prior_draws_the_same_for_the_same_seed_alone(prior):
    state = torch.get_rng_state()
    first, again, other = (prior.sample(50, seed=seed).embeddings for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first[:5], other[:5])
    assert torch.equal(state, torch.get_rng_state())


def test_prior_is_the_same_after_saving(prior, tmp_path):
    prior.save(tmp_path / "voices.safetensors")
    again = VoicePrior.load(tmp_path / "voices.safetensors")
    assert again.fingerprint == prior.fingerprint
    assert float((again.speakers * prior.speakers).sum(dim=1).min()) > 0.999
    points = torch.randn(5, 18)
    torch.testing.assert_close(
        again.mixture.log_probability(points), prior.mixture.log_probability(points), atol=0.3, rtol=0.02
    )
    assert float(again.sample(64).embeddings.std()) == pytest.approx(float(prior.sample(64).embeddings.std()), rel=0.05)


def test_prior_refuses_what_it_cannot_use(prior, tmp_path):
    nan = F0Statistics(torch.full((9,), torch.nan), torch.ones(9))
    with pytest.raises(VcvaeError, match="four or more"):
        VoicePrior.fit(prior.speakers[:9], nan, "")
    with pytest.raises(VcvaeError, match="four or more"):
        VoicePrior.fit(prior.speakers[:3], F0Statistics(torch.ones(3), torch.ones(3)), "")
    (tmp_path / "voices.safetensors").write_bytes(b"something else")
    with pytest.raises(VcvaeError, match="not a prior of voices"):
        VoicePrior.from_pretrained(tmp_path)
    (tmp_path / "voices.safetensors").unlink()
    with pytest.raises(VcvaeError, match="no voices"):
        VoicePrior.from_pretrained(tmp_path)


def test_prior_of_few_speakers_is_fitted(monkeypatch):
    monkeypatch.setattr(prior_module, "MAX_SIMILARITY", 2.0)
    torch.manual_seed(0)
    few = VoicePrior.fit(
        F.normalize(torch.randn(6, 8), dim=1), F0Statistics(torch.rand(6) + 7, torch.rand(6) + 0.1), ""
    )
    assert few.sample(20).embeddings.shape == (20, 8)


def test_released_prior_is_for_the_released_model(released):
    prior = VoicePrior.from_pretrained()
    assert prior.fingerprint == released.fingerprint
    assert len(prior.speakers) > 200
    assert replace(prior, mean=prior.mean).sample(100).f0_statistics.mean.exp2().min() > 60
