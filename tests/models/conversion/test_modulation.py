import math

import numpy as np
import pytest
import torch

from vcvae.features.cepstrum import CEPSTRUM_ORDER, from_cepstrum
from vcvae.models.conversion.modulation import EnvelopeModulation

RATE, CUTOFF = 86.0, 4.0  # Hz


def modulation(mel, mask=None):
    """(batch, cepstra, frames)."""
    return EnvelopeModulation.from_mel(mel, mask, cutoff=CUTOFF / RATE).moves


def moving(hertz, frames=860, quefrency=3):
    """Mels one of whose cepstra swings so many times a second."""
    cepstra = torch.zeros(1, 41, frames)
    cepstra[:, quefrency] = torch.sin(2 * math.pi * hertz / RATE * torch.arange(frames))
    return from_cepstrum(cepstra, 70)


@pytest.mark.parametrize("hertz", [0.5, 2.0, 4.0, 8.0, 16.0])
def test_it_is_what_a_gaussian_low_pass_leaves(hertz):
    """The Gaussian passes exp(-ln 2 / 2 · (f / cutoff)²) of an amplitude: half of the power at the cutoff."""
    moves = modulation(moving(hertz))[..., 200:-200]
    expected = 1 - math.exp(-math.log(2) / 2 * (hertz / CUTOFF) ** 2)
    assert moves[:, 3].square().mean().mul(2).sqrt().item() == pytest.approx(expected, abs=0.02)
    assert moves.index_fill(1, torch.tensor([3]), 0).abs().max() < 1e-4


def test_gain_and_a_fixed_filter_leave_no_trace():
    mel = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 70, 90))).float()
    coloured = mel + torch.linspace(-3, 5, 70)[:, None]
    torch.testing.assert_close(*(modulation(x) for x in (mel, coloured)), atol=1e-4, rtol=0)


def test_harmonics_leave_no_trace():
    assert modulation(moving(8.0, quefrency=CEPSTRUM_ORDER + 3)).abs().max() < 1e-4


def test_padding_leaves_no_trace():
    mel = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 70, 60))).float()
    padded = torch.nn.functional.pad(mel, (0, 25), value=9.0)
    mask = (torch.arange(85) < 60).float()[None, :, None]
    together = modulation(padded, mask)
    torch.testing.assert_close(together[..., :60], modulation(mel), atol=1e-4, rtol=1e-4)
    assert together[..., 60:].abs().max() == 0


def test_what_is_given_an_articulation_has_it_and_keeps_the_rest():
    """Its own slow movements, and all that is finer than the envelope."""
    mel, other = (torch.from_numpy(np.random.default_rng(i).standard_normal((1, 80, 300))).float() for i in range(2))
    wanted = EnvelopeModulation.from_mel(other, cutoff=CUTOFF / RATE)
    given = wanted.apply_to(mel)
    back = EnvelopeModulation.from_mel(mel, cutoff=CUTOFF / RATE).apply_to(given)
    # The slow part that the movements themselves have is small: a Gaussian is no brick wall.
    assert (modulation(given) - wanted.moves).abs().mean() < 0.25 * (modulation(mel) - wanted.moves).abs().mean()
    assert (back - mel).abs().mean() < 0.25 * (given - mel).abs().mean()
    torch.testing.assert_close(EnvelopeModulation.from_mel(mel, cutoff=CUTOFF / RATE).apply_to(mel), mel)
