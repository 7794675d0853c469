import math

import pytest
import torch

from vcvae.training.spectral import MultiResolutionSpectrum

RATE = 22050


@pytest.fixture
def spectrum():
    return MultiResolutionSpectrum(RATE)


def noise(seed, samples=8192):
    return torch.randn(2, samples, generator=torch.Generator().manual_seed(seed))


def test_distance_of_a_gain_is_its_logarithm(spectrum):
    a, b = spectrum(noise(0)), spectrum(3 * noise(0))
    full = torch.full((2,), RATE / 2)
    assert spectrum.distance(a, b, full).item() == pytest.approx(math.log(3), rel=1e-4)
    assert spectrum.distance(a, a, full) == 0


def test_distance_ignores_what_is_above_the_bandwidth(spectrum):
    time = torch.arange(8192) / RATE
    samples = noise(0) + 0 * time
    changed = samples + 5 * torch.sin(2 * math.pi * 10_000 * time)
    a, b = spectrum(samples), spectrum(changed)
    assert spectrum.distance(a, b, torch.full((2,), RATE / 2)) > 0.05
    assert spectrum.distance(a, b, torch.full((2,), 6000.0)) < 0.01


def test_distance_has_finite_gradients_in_silence(spectrum):
    silence = torch.zeros(2, 8192, requires_grad=True)
    spectrum.distance(spectrum(silence), spectrum(noise(0)), torch.full((2,), 8000.0)).backward()
    assert silence.grad.isfinite().all()
