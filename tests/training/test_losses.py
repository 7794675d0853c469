import math

import pytest
import torch
from torch.nn import functional as F

from vcvae.features.f0 import F0_BINS, F0Contour, from_bins
from vcvae.models.distributions import Gaussian
from vcvae.training import losses


def test_reconstruction_skips_invalid_bands():
    mel = torch.zeros(2, 4, 5)
    decoded = torch.tensor([1.0, 2.0, 3.0, 100.0])[None, :, None].expand(2, 4, 5)
    valid_bands = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]])
    assert losses.reconstruction(decoded, mel, valid_bands).item() == pytest.approx((1 + 2 + 3 + 1 + 2) / 5)


def test_kl_is_nats_per_frame():
    posterior = Gaussian(torch.full((2, 3, 7), 2.0), torch.zeros(2, 3, 7))
    assert losses.kl(posterior).item() == pytest.approx(3 * 0.5 * 4)


def test_contrastive_is_lowest_when_speakers_are_apart():
    speakers = torch.tensor([0, 1, 2, 0, 1, 2])
    apart, together = torch.eye(3).repeat(2, 1), torch.ones(6, 3) / math.sqrt(3)
    low = losses.contrastive(apart, speakers, temperature=0.1)
    high = losses.contrastive(together, speakers, temperature=0.1)
    assert low < 0.01
    assert high.item() == pytest.approx(math.log(5))  # one row of the same speaker among five equal rows


def test_aam_softmax_without_margin_is_cross_entropy_of_scaled_cosines():
    torch.manual_seed(0)
    latents, prototypes = F.normalize(torch.randn(5, 8), dim=1), 3 * torch.randn(4, 8)
    speakers = torch.tensor([0, 3, 1, 1, 2])
    expected = F.cross_entropy(10 * latents @ F.normalize(prototypes, dim=1).T, speakers)
    torch.testing.assert_close(losses.aam_softmax(latents, speakers, prototypes, scale=10.0), expected)


def test_aam_softmax_margin_is_added_to_the_angle():
    def direction(angle):
        return torch.tensor([[math.cos(angle), math.sin(angle)]])

    prototypes, first = torch.cat([direction(0.0), direction(1.0)]), torch.tensor([0])
    equal = losses.aam_softmax(direction(0.3), first, prototypes, scale=10.0, margin=0.4)
    assert equal.item() == pytest.approx(math.log(2), abs=1e-4)  # 0.3 + 0.4 is the angle to the other
    opposite = losses.aam_softmax(-direction(0.0), first, prototypes, scale=10.0, margin=0.4)
    assert opposite > losses.aam_softmax(-direction(0.1), first, prototypes, scale=10.0) > 0


def test_f0_is_lowest_at_the_measured_f0():
    measured = F0Contour(from_bins(torch.full((1, 6), 30.0)), torch.tensor([[1.0, 1, 1, 0, 0, 0]]))
    voiced = 20 * (measured.voicing - 0.5)

    def loss(place, voiced):
        scores = -0.5 * (torch.arange(F0_BINS, dtype=torch.float) - place).square().expand(1, 6, F0_BINS)
        return losses.f0(scores, voiced, measured)

    right = loss(30.0, voiced)
    assert right < loss(31.0, voiced)
    assert right < loss(30.0, -voiced)
    scores = torch.zeros(1, 6, F0_BINS)
    scores[:, 3:] = 1e3 * torch.randn(1, 3, F0_BINS)  # where unvoiced, the bins do not matter
    torch.testing.assert_close(
        losses.f0(scores, voiced, measured), losses.f0(torch.zeros(1, 6, F0_BINS), voiced, measured)
    )


def test_content_mse_is_the_mean_squared_difference():
    x = torch.randn(2, 3, 4)
    assert losses.content_mse(x, x) == 0
    assert losses.content_mse(x + 2, x).item() == pytest.approx(4)


def test_adversarial_losses_have_known_values():
    true, false = torch.ones(2, 5), torch.zeros(2, 7)
    assert losses.discriminator_loss([true], [false, false]) == 0
    assert losses.discriminator_loss([false], [true]) == 2
    assert losses.discriminator_loss([true, false], [false, false]) == 0.5
    assert losses.generator_loss([true, false]) == 0.5
    real = [torch.full((2, 4), 2.0), torch.full((2, 3), 100.0)]
    assert losses.feature_matching(real, real) == 0
    assert losses.feature_matching(real, [1.5 * x for x in real]).item() == pytest.approx(0.5)


def test_f0_l1_counts_voiced_frames_with_small_differences():
    measured = F0Contour(torch.full((1, 4), 7.0), torch.tensor([[1.0, 1.0, 0.0, 1.0]]))
    contour = F0Contour(torch.tensor([[7.1, 6.9, 9.0, 8.0]]), torch.ones(1, 4))
    assert losses.f0_l1(contour, measured).item() == pytest.approx(0.1)
    assert losses.f0_l1(contour, F0Contour(measured.log_f0, torch.zeros(1, 4))) == 0
