import pytest
import torch
from sklearn.decomposition import PCA

from vcvae.errors import VcvaeError
from vcvae.models.classic.autoencoder import VAE, AutoEncoder, AutoEncoderConfig, DenoisingAutoEncoder
from vcvae.models.distributions import Gaussian, Point

SIZES = {"latent": 3, "channels": 16, "blocks": 1}
SHAPES = {"frames": (2, 80, 37), "image": (2, 1, 13, 10), "vector": (2, 7)}
CODES = {"frames": (2, 3, 10), "image": (2, 3, 4, 3), "vector": (2, 3)}


def make(kind, backbone="frames", **changes):
    torch.manual_seed(0)
    return kind(AutoEncoderConfig(backbone=backbone, inputs=SHAPES[backbone][1], **SIZES, **changes)).eval()


@pytest.mark.parametrize("kind", [AutoEncoder, DenoisingAutoEncoder, VAE])
@pytest.mark.parametrize("backbone", SHAPES)
def test_autoencoders_take_frames_images_and_vectors(kind, backbone):
    model, x = make(kind, backbone), torch.randn(SHAPES[backbone])
    posterior = model.encode(x)
    assert isinstance(posterior, Gaussian if kind is VAE else Point)
    assert posterior.mean.shape == CODES[backbone]
    likelihood = model.decode(posterior.sample(), x.shape)
    assert likelihood.mean.shape == likelihood.log_scale.shape == model.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_autoencoder_keeps_any_length(frames):
    assert make(AutoEncoder).reconstruct(torch.randn(1, 80, frames)).shape == (1, 80, frames)


@pytest.mark.parametrize("kind", [AutoEncoder, DenoisingAutoEncoder])
def test_autoencoder_is_the_principal_component_analysis_before_training(kind):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 80).cumsum(dim=2) + torch.randn(6, 1)
    model = kind(AutoEncoderConfig(inputs=6, latent=5, channels=16, blocks=1))
    model.initialize(x)
    positions = x.mT.reshape(-1, 24).numpy()
    analysis = PCA(5).fit(positions)
    expected = analysis.inverse_transform(analysis.transform(positions)).reshape(4, 80, 6)
    torch.testing.assert_close(model.reconstruct(x).mT, torch.from_numpy(expected), atol=1e-3, rtol=1e-4)


def test_autoencoder_with_a_full_width_code_starts_as_the_identity():
    model, x = AutoEncoder(AutoEncoderConfig(inputs=2, latent=11, channels=16, blocks=1)), torch.randn(3, 2, 40)
    model.initialize(x)
    torch.testing.assert_close(model.reconstruct(x), x, atol=1e-4, rtol=1e-4)


def test_likelihood_scale_is_fixed_at_std_and_learned_in_the_vae():
    x = torch.randn(SHAPES["frames"])
    for kind, learned in ((AutoEncoder, False), (VAE, True)):
        model = make(kind, std=2.5)
        scale = model.decode(model.encode(x).mean, x.shape).log_scale.exp()
        assert (scale.std() > 0) == learned
        if not learned:
            torch.testing.assert_close(scale, torch.full_like(scale, 2.5))


def test_likelihood_in_other_units_changes_by_the_jacobian():
    """x in other units is as probable as before, but for the units: ln p(a x + b) = ln p(x) − ln a each value."""

    def log_probability(model, x):
        return model.decode(model.encode(x).mean, x.shape).log_probability(x)

    x = torch.randn(SHAPES["vector"])
    plain = log_probability(make(VAE, "vector", mean=0.0, std=1.0), x)
    scaled = log_probability(make(VAE, "vector", mean=1.0, std=3.0), 3 * x + 1)
    torch.testing.assert_close(scaled, plain - torch.log(torch.tensor(3.0)), atol=1e-4, rtol=1e-4)


def test_vae_sample_gradients_are_those_of_finite_differences():
    """The reparameterised ELBO with the noise held still, against differences in μ and s."""
    torch.manual_seed(0)
    model = make(VAE, "vector", mean=0.0, std=1.0).double()
    x, mean, log_variance = torch.randn(2, 7).double(), torch.randn(2, 3).double(), torch.randn(2, 3).double()

    def elbo(mean, log_variance):
        torch.manual_seed(1)
        posterior = Gaussian(mean, log_variance)
        return model.decode(posterior.sample(), x.shape).log_probability(x).sum() - posterior.kl().sum()

    inputs = (mean.requires_grad_(), log_variance.requires_grad_())
    assert torch.autograd.gradcheck(elbo, inputs, eps=1e-6, atol=1e-5)


def test_vae_samples_and_interpolates_mels():
    model, (a, b) = make(VAE), torch.randn(2, 1, 80, 37)
    samples = model.sample(torch.Size([3, 80, 21]))
    assert samples.shape == (3, 80, 21)
    assert not torch.allclose(samples[0], samples[1])
    torch.testing.assert_close(model.interpolate(a, b, 0.0), model.reconstruct(a))
    torch.testing.assert_close(model.interpolate(a, b, 1.0), model.reconstruct(b))


def test_autoencoder_is_the_same_after_saving_and_loading(tmp_path):
    x = torch.randn(SHAPES["frames"])
    for kind in (AutoEncoder, DenoisingAutoEncoder, VAE):
        model = make(kind)
        model.save_pretrained(tmp_path / kind.__name__)
        torch.testing.assert_close(kind.from_pretrained(tmp_path / kind.__name__).reconstruct(x), model.reconstruct(x))
    with pytest.raises(VcvaeError, match="holds VAE, where AutoEncoder is needed"):
        AutoEncoder.from_pretrained(tmp_path / "VAE")


def test_autoencoder_refuses_a_wrong_x_in_one_sentence():
    model = make(AutoEncoder)
    for shape in ((80, 10), (1, 79, 10), (1, 80, 0)):
        with pytest.raises(VcvaeError, match=r"x must be \(batch, 80, frames\)"):
            model.encode(torch.randn(shape))
    with pytest.raises(VcvaeError, match="not finite"):
        model.encode(torch.full((1, 80, 5), torch.nan))
