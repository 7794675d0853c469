import numpy as np
import torch

from vcvae.features.cepstrum import align, cepstrum, from_cepstrum


def test_cepstrum_of_full_order_is_the_mel():
    x = torch.randn(80, 20)
    torch.testing.assert_close(from_cepstrum(cepstrum(x, 79), 80), x, atol=1e-4, rtol=0)
    torch.testing.assert_close(cepstrum(torch.full((80, 3), 2.0))[1:], torch.zeros(24, 3), atol=1e-5, rtol=0)


def test_align_undoes_a_warp_of_time():
    truth = np.random.default_rng(0).standard_normal((5, 30))
    repeats = np.random.default_rng(1).integers(1, 4, 30)
    i, j = align(truth, truth.repeat(repeats, axis=1))
    np.testing.assert_array_equal(i, np.arange(30).repeat(repeats))
    np.testing.assert_array_equal(j, np.arange(repeats.sum()))


def test_cepstrum_has_a_gradient_even_if_first_called_in_inference_mode():
    with torch.inference_mode():
        cepstrum(torch.zeros(1, 37, 3))
    mel = torch.zeros(1, 37, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(cepstrum, mel, atol=1e-4)
