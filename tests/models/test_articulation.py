import math

import numpy as np
import pytest
import torch

from vcvae.cepstrum import from_cepstrum
from vcvae.models.articulation import ORDER, articulation

RATE, CUTOFF = 86.0, 4.0


def moving(hertz, frames=860, quefrency=3):
    """Mels one of whose cepstra swings so many times a second."""
    cepstra = torch.zeros(1, 41, frames)
    cepstra[:, quefrency] = torch.sin(2 * math.pi * hertz / RATE * torch.arange(frames))
    return from_cepstrum(cepstra, 70)


@pytest.mark.parametrize("hertz", [0.5, 2.0, 4.0, 8.0, 16.0])
def test_it_is_what_a_gaussian_low_pass_leaves(hertz):
    """The Gaussian passes exp(-ln 2 / 2 · (f / cutoff)²) of an amplitude: half of the power at the cutoff."""
    moves = articulation(moving(hertz), cutoff=CUTOFF, frame_rate=RATE)[:, 200:-200]
    expected = 1 - math.exp(-math.log(2) / 2 * (hertz / CUTOFF) ** 2)
    assert moves[..., 3].square().mean().mul(2).sqrt().item() == pytest.approx(expected, abs=0.02)
    assert moves.index_fill(2, torch.tensor([3]), 0).abs().max() < 1e-4


def test_gain_and_a_fixed_filter_leave_no_trace():
    mel = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 70, 90))).float()
    coloured = mel + torch.linspace(-3, 5, 70)[:, None]
    torch.testing.assert_close(
        *(articulation(x, cutoff=CUTOFF, frame_rate=RATE) for x in (mel, coloured)), atol=1e-4, rtol=0
    )


def test_harmonics_leave_no_trace():
    assert articulation(moving(8.0, quefrency=ORDER + 3), cutoff=CUTOFF, frame_rate=RATE).abs().max() < 1e-4


def test_padding_leaves_no_trace():
    mel = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 70, 60))).float()
    padded = torch.nn.functional.pad(mel, (0, 25), value=9.0)
    mask = (torch.arange(85) < 60).float()[None, :, None]
    together = articulation(padded, mask, cutoff=CUTOFF, frame_rate=RATE)
    torch.testing.assert_close(
        together[:, :60], articulation(mel, cutoff=CUTOFF, frame_rate=RATE), atol=1e-4, rtol=1e-4
    )
    assert together[:, 60:].abs().max() == 0
