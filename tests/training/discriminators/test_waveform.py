import pytest
import torch

from vcvae.training.discriminators.waveform import (
    PeriodDiscriminator,
    SpectrumDiscriminator,
    WaveformDiscriminatorConfig,
    WaveformDiscriminators,
)


@pytest.mark.parametrize("samples", [8192, 8193, 5000])
def test_waveform_discriminators_score_any_length(samples):
    config = WaveformDiscriminatorConfig(period_channels=(2, 4), spectrum_channels=(2, 4), spectrum_strides=(4, 2))
    output = WaveformDiscriminators(config)(torch.randn(3, samples))
    count = len(config.periods) + len(config.windows)
    assert [len(scores) for scores in output.scores] == [3] * count
    assert [features.shape[1] for features in output.features] == [2, 4] * count


def test_period_discriminator_separates_the_phases_of_its_period():
    torch.manual_seed(0)
    discriminator = PeriodDiscriminator(5, (4, 4))
    samples = torch.randn(1, 500)
    changed = samples.clone()
    changed[0, 2::5] += 1
    moved = (discriminator(changed).scores[0] - discriminator(samples).scores[0]).abs().amax(dim=(0, 1, 2))
    assert (moved > 0).tolist() == [False, False, True, False, False]


def test_spectrum_discriminator_compresses_magnitudes():
    torch.manual_seed(0)
    discriminator, samples = SpectrumDiscriminator(512, (4,), (4,)), torch.randn(1, 4096)
    inputs = []
    discriminator.layers[0].register_forward_pre_hook(lambda _module, arguments: inputs.append(arguments[0]))
    for gain in (1.0, 100.0):
        discriminator(gain * samples)
    ratio = (inputs[1].abs().mean() / inputs[0].abs().mean()).item()
    assert ratio == pytest.approx(100**0.3, rel=0.01)
