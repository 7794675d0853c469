import math

import torch

from vcvae.features import fbank
from vcvae.features.fbank import FBANK_BANDS, filterbank


def test_filterbank_has_a_tone_in_its_band():
    top = 2595 * math.log10(1 + 8000 / 700)
    for band in (10, 40, 70):  # counted from 0; triangles are even on the mel scale
        hertz = 700 * (10 ** ((band + 1) * top / (FBANK_BANDS + 1) / 2595) - 1)
        tone = 0.1 * torch.sin(2 * math.pi * hertz * torch.arange(16000) / 16000)
        bands = filterbank(tone[None])
        assert bands.shape == (1, FBANK_BANDS, 101)
        assert int(bands[0, :, 50].argmax()) == band
        louder = filterbank(10 * tone[None])
        torch.testing.assert_close(louder[0, band] - bands[0, band], torch.full((101,), 20.0), atol=1e-2, rtol=0)
        assert float(bands.amax() - bands.amin()) <= 80.001


def test_filterbank_has_a_gradient_even_if_first_called_in_inference_mode():
    """The cached triangles must not be inference tensors; the gradient is that of finite differences."""
    fbank._triangles.cache_clear()
    torch.manual_seed(0)
    samples = 0.1 * torch.randn(1, 4000)
    with torch.inference_mode():
        filterbank(samples)
    samples.requires_grad_()
    (gradient,) = torch.autograd.grad(filterbank(samples).mean(), samples)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        difference = filterbank(samples + 1e-3 * direction).mean() - filterbank(samples - 1e-3 * direction).mean()
    torch.testing.assert_close(difference / 2e-3, gradient.norm(), atol=0, rtol=0.02)
