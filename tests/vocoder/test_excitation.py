import math

import numpy as np
import pytest
import torch

from vcvae.vocoder.excitation import aspiration, fundamental, phase, pulses

RATE = 22050


def test_fundamental_interpolates_its_values_linearly():
    f0 = fundamental(torch.log2(torch.tensor([[100.0, 200.0, 400.0]])), hop=4)
    assert f0.shape == (1, 12)
    octaves = torch.log2(f0[0] / 100)
    # Frame t is centred between samples 4 t + 1 and 4 t + 2; one octave lies between two frames.
    expected = ((torch.arange(12) - 1.5) / 4).clamp(0, 2)
    torch.testing.assert_close(octaves, expected)


def test_phase_is_the_integral_of_frequency():
    torch.manual_seed(0)
    f0 = 100 + 300 * torch.rand(2, 200 * 256)
    actual = phase(f0, sample_rate=RATE, hop=256)
    expected = np.cumsum(f0.double().numpy() / RATE, axis=1)
    turns = actual.double().numpy() - expected
    assert np.abs(turns - np.round(turns)).max() < 2e-4


@pytest.mark.parametrize("frequency", [61.0, 110.25, 333.3, 500.0])
def test_pulses_are_the_sum_of_all_harmonics_in_phase(frequency):
    run = phase(torch.full((1, 1024), frequency), sample_rate=RATE, hop=256)
    count = RATE / 2 / frequency
    cycles = run[0].double()
    weights = [1.0] * math.floor(count) + [count - math.floor(count)]
    expected = sum(w * torch.cos(2 * math.pi * (k + 1) * cycles) for k, w in enumerate(weights))
    actual = pulses(torch.full((1, 1024), frequency), run, sample_rate=RATE)[0]
    torch.testing.assert_close(actual.double(), expected * math.sqrt(2 / count), atol=0.02, rtol=1e-3)


def test_pulses_have_unit_power_and_their_peak_where_a_cycle_begins():
    frequency = torch.full((1, RATE), 100.0)
    run = (frequency / RATE).cumsum(1)
    actual = pulses(frequency, run, sample_rate=RATE)
    assert actual.square().mean().item() == pytest.approx(1, rel=0.01)
    place = run[0, actual[0].argmax()]
    assert (place - place.round()).abs() < 0.01
    exact = pulses(torch.tensor([[100.0]]), torch.tensor([[3.0]]), sample_rate=RATE)
    assert exact.item() == pytest.approx(110.25 * math.sqrt(2 / 110.25), rel=1e-4)


def test_pulses_do_not_alias():
    frequency = torch.full((1, RATE), 441.0)
    spectrum = torch.fft.rfft(pulses(frequency, (frequency / RATE).cumsum(1), sample_rate=RATE)[0]).abs()
    harmonic = torch.zeros_like(spectrum, dtype=torch.bool)
    harmonic[441::441] = True
    assert spectrum[~harmonic].max() < 1e-3 * spectrum[harmonic].max()


def test_aspiration_has_unit_power_and_is_synchronous_with_the_pulses():
    noise = torch.randn(1, 50 * RATE, generator=torch.Generator().manual_seed(0))
    cycles = torch.arange(50 * RATE)[None] / 147.0
    actual = aspiration(noise, cycles)
    assert actual.square().mean().item() == pytest.approx(1, rel=0.02)
    power = actual.square()[0, : 147 * 7000].unflatten(0, (-1, 147)).mean(dim=0)
    assert power[:8].mean() > 10 * power[60:90].mean()
    torch.testing.assert_close(power[1:74], power.flip(0)[:73], atol=0.3, rtol=0.3)  # before a pulse as after it
