import math

import numpy as np
import pytest
import torch

from vcvae.features.cepstrum import CEPSTRUM_ORDER, from_cepstrum
from vcvae.models.conversion.modulation import EnvelopeModulation

RATE, CUTOFF = 86.0, 4.0  # Hz


def modulation(mel, mask=None):
    """(batch, cepstra, frames)."""
    return EnvelopeModulation.from_mel(mel, mask, cutoff=CUTOFF / RATE).values


def moving(hertz, frames=860, quefrency=3):
    """Mels one of whose cepstra swings so many times a second."""
    cepstra = torch.zeros(1, 41, frames)
    cepstra[:, quefrency] = torch.sin(2 * math.pi * hertz / RATE * torch.arange(frames))
    return from_cepstrum(cepstra, 70)


@pytest.mark.parametrize("hertz", [0.5, 2.0, 4.0, 8.0, 16.0])
def test_modulation_is_what_a_gaussian_low_pass_removes(hertz):
    """The Gaussian passes exp(-ln 2 / 2 · (f / cutoff)²) of an amplitude: half of the power at the cutoff."""
    values = modulation(moving(hertz))[..., 200:-200]
    expected = 1 - math.exp(-math.log(2) / 2 * (hertz / CUTOFF) ** 2)
    assert values[:, 3].square().mean().mul(2).sqrt().item() == pytest.approx(expected, abs=0.02)
    assert values.index_fill(1, torch.tensor([3]), 0).abs().max() < 1e-4


def test_modulation_ignores_a_gain_and_a_fixed_filter():
    mel = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 70, 90))).float()
    coloured = mel + torch.linspace(-3, 5, 70)[:, None]
    torch.testing.assert_close(*(modulation(x) for x in (mel, coloured)), atol=1e-4, rtol=0)


def test_modulation_ignores_harmonics():
    assert modulation(moving(8.0, quefrency=CEPSTRUM_ORDER + 3)).abs().max() < 1e-4


def test_modulation_ignores_padding():
    mel = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 70, 60))).float()
    padded = torch.nn.functional.pad(mel, (0, 25), value=9.0)
    mask = (torch.arange(85) < 60).float()[None, :, None]
    together = modulation(padded, mask)
    torch.testing.assert_close(together[..., :60], modulation(mel), atol=1e-4, rtol=1e-4)
    assert together[..., 60:].abs().max() == 0


def test_apply_to_gives_the_modulation_and_keeps_the_rest():
    """The rest: its own slow modulation, and all that is finer than the envelope."""
    mel = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 80, 300))).float()
    other = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 80, 300))).float()
    target = EnvelopeModulation.from_mel(other, cutoff=CUTOFF / RATE)
    modulated = target.apply_to(mel)
    back = EnvelopeModulation.from_mel(mel, cutoff=CUTOFF / RATE).apply_to(modulated)
    # The slow part of the modulation itself is small, but not zero: a Gaussian has no sharp cutoff.
    assert (modulation(modulated) - target.values).abs().mean() < 0.25 * (modulation(mel) - target.values).abs().mean()
    assert (back - mel).abs().mean() < 0.25 * (modulated - mel).abs().mean()
    torch.testing.assert_close(EnvelopeModulation.from_mel(mel, cutoff=CUTOFF / RATE).apply_to(mel), mel)
