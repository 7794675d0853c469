import pytest
import torch

from vcvae.features.mel import MelSpectrogram
from vcvae.features.stft import inverse, minimum_phase, toward_mel, transform

WINDOW = torch.hann_window(512)


@pytest.mark.parametrize("hop", [64, 128, 256])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_there_and_back_is_where_it_was(hop, frames):
    torch.manual_seed(0)
    samples = torch.randn(2, frames * hop)
    spectra = transform(samples, WINDOW, hop)
    assert spectra.shape == (2, frames, 257)
    torch.testing.assert_close(inverse(spectra, WINDOW, hop), samples, atol=1e-4, rtol=1e-4)


def test_frames_are_centred_on_their_hop():
    click = torch.zeros(1, 10 * 128)
    click[0, 5 * 128 + 64] = 1
    assert transform(click, WINDOW, 128).abs().sum(2)[0].argmax() == 5


def test_the_inverse_agrees_with_torch():
    torch.manual_seed(0)
    spectra = torch.view_as_complex(torch.randn(1, 40, 257, 2))
    found = inverse(spectra, WINDOW, 128)
    expected = torch.istft(spectra.transpose(1, 2), 512, 128, window=WINDOW, center=True)
    # torch centres frame 0 on the first sample that it gives; here it is centred on sample 64.
    torch.testing.assert_close(found[0, 256 + 64 : 30 * 128 + 64], expected[0, 256 : 30 * 128], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("zeros", [[0.5], [0.8, -0.7], [0.3 + 0.6j, 0.3 - 0.6j]])
def test_minimum_phase_of_a_filter_with_its_zeros_inside_the_circle_is_its_own(zeros):
    z = torch.polar(torch.ones(257), torch.linspace(0, torch.pi, 257)).to(torch.complex128)
    response = torch.ones_like(z)
    for zero in zeros:
        response = response * (1 - zero / z)
    found = minimum_phase(response.abs().log())
    torch.testing.assert_close(torch.polar(response.abs(), found), response, atol=1e-6, rtol=1e-6)


def test_mirrored_spectra_are_the_mels():
    mel = MelSpectrogram()
    torch.manual_seed(0)
    samples = torch.randn(2, 20 * 256)
    magnitude = transform(samples, mel.window, 256, mirrored=True).abs().transpose(1, 2)
    torch.testing.assert_close((mel.filters @ magnitude).log(), mel(samples), atol=1e-4, rtol=1e-4)


def test_steps_toward_a_mel_arrive_and_keep_the_detail():
    torch.manual_seed(0)
    filters = MelSpectrogram().filters
    wanted = filters @ torch.rand(513, 4)
    start = magnitude = torch.rand(513, 4)
    errors = []
    for _ in range(30):
        errors.append((filters @ magnitude - wanted).abs().mean().item())
        magnitude = toward_mel(magnitude, wanted, filters)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]
    assert torch.corrcoef(torch.stack([start.log().flatten(), magnitude.log().flatten()]))[0, 1] > 0.9
    above = filters.sum(0) == 0
    torch.testing.assert_close(magnitude[above], start[above])
