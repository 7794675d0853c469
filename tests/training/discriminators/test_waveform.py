import pytest
import torch

from vcvae.training.discriminators.waveform import (
    DiscriminatorConfig,
    Discriminators,
    PeriodDiscriminator,
    SpectrumDiscriminator,
)


@pytest.mark.parametrize("samples", [8192, 8193, 5000])
def test_every_one_judges_any_length(samples):
    config = DiscriminatorConfig(period_channels=(2, 4), spectrum_channels=(2, 4), spectrum_strides=(4, 2))
    found = Discriminators(config)(torch.randn(3, samples))
    count = len(config.periods) + len(config.windows)
    assert [len(scores) for scores in found.scores] == [3] * count
    assert [features.shape[1] for features in found.features] == [2, 4] * count


def test_a_period_discriminator_hears_each_phase_of_the_period_alone():
    torch.manual_seed(0)
    discriminator = PeriodDiscriminator(5, (4, 4))
    samples = torch.randn(1, 500)
    changed = samples.clone()
    changed[0, 2::5] += 1
    moved = (discriminator(changed).scores[0] - discriminator(samples).scores[0]).abs().amax(dim=(0, 1, 2))
    assert (moved > 0).tolist() == [False, False, True, False, False]


def test_a_spectrum_discriminator_hears_loud_and_soft_more_alike_than_they_are():
    torch.manual_seed(0)
    discriminator, samples = SpectrumDiscriminator(512, (4,), (4,)), torch.randn(1, 4096)
    seen = []
    discriminator.layers[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    for gain in (1.0, 100.0):
        discriminator(gain * samples)
    ratio = (seen[1].abs().mean() / seen[0].abs().mean()).item()
    assert ratio == pytest.approx(100**0.3, rel=0.01)
