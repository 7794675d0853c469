import pytest
import torch

from vcvae.features.mel import MelSpectrogram
from vcvae.features.stft import inverse, low_pass, minimum_phase, moving_average, toward_mel, transform

WINDOW = torch.hann_window(512)


@pytest.mark.parametrize("hop", [64, 128, 256])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_inverse_of_transform_is_the_signal(hop, frames):
    torch.manual_seed(0)
    samples = torch.randn(2, frames * hop)
    spectra = transform(samples, WINDOW, hop)
    assert spectra.shape == (2, frames, 257)
    torch.testing.assert_close(inverse(spectra, WINDOW, hop), samples, atol=1e-4, rtol=1e-4)


def test_transform_frames_are_centred_on_their_hop():
    click = torch.zeros(1, 10 * 128)
    click[0, 5 * 128 + 64] = 1
    assert transform(click, WINDOW, 128).abs().sum(2)[0].argmax() == 5


def test_inverse_agrees_with_torch():
    torch.manual_seed(0)
    spectra = torch.view_as_complex(torch.randn(1, 40, 257, 2))
    samples = inverse(spectra, WINDOW, 128)
    expected = torch.istft(spectra.transpose(1, 2), 512, 128, window=WINDOW, center=True)
    # torch centres frame 0 on the first sample that it gives; here it is centred on sample 64.
    torch.testing.assert_close(samples[0, 256 + 64 : 30 * 128 + 64], expected[0, 256 : 30 * 128], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("zeros", [[0.5], [0.8, -0.7], [0.3 + 0.6j, 0.3 - 0.6j]])
def test_minimum_phase_recovers_a_filter_with_zeros_inside_the_unit_circle(zeros):
    z = torch.polar(torch.ones(257), torch.linspace(0, torch.pi, 257)).to(torch.complex128)
    response = torch.ones_like(z)
    for zero in zeros:
        response = response * (1 - zero / z)
    phases = minimum_phase(response.abs().log())
    torch.testing.assert_close(torch.polar(response.abs(), phases), response, atol=1e-6, rtol=1e-6)


def test_transform_mirrored_gives_the_spectra_of_the_mel():
    mel = MelSpectrogram()
    torch.manual_seed(0)
    samples = torch.randn(2, 20 * 256)
    magnitude = transform(samples, mel.window, 256, mirrored=True).abs().transpose(1, 2)
    torch.testing.assert_close((mel.filters @ magnitude).log(), mel(samples), atol=1e-4, rtol=1e-4)


def test_toward_mel_converges_and_keeps_the_detail():
    torch.manual_seed(0)
    filters = MelSpectrogram().filters
    target = filters @ torch.rand(513, 4)
    start = magnitude = torch.rand(513, 4)
    errors = []
    for _ in range(30):
        errors.append((filters @ magnitude - target).abs().mean().item())
        magnitude = toward_mel(magnitude, target, filters)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]
    assert torch.corrcoef(torch.stack([start.log().flatten(), magnitude.log().flatten()]))[0, 1] > 0.9
    above = filters.sum(0) == 0
    torch.testing.assert_close(magnitude[above], start[above])


def test_moving_average_repeats_the_ends():
    torch.testing.assert_close(moving_average(torch.tensor([[[3.0, 0, 6]]]), 3), torch.tensor([[[2.0, 3, 4]]]))


def test_low_pass_keeps_what_is_below_the_bandwidth():
    tones = torch.stack([torch.sin(torch.arange(4410) * 2 * torch.pi * f / 22050) for f in (1000, 9000)])
    mixed = tones.sum(0).expand(2, -1)
    passed = low_pass(mixed, torch.tensor([5000.0, 11025.0]), 22050)
    torch.testing.assert_close(passed[0], tones[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(passed[1], mixed[1], atol=1e-3, rtol=0)
