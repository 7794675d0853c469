"""The level of a synthesized signal is its source's, and its peaks stay within full scale."""

import numpy as np
import pytest
import torch

from tests.synthetic import RATE
from vcvae.convert.level import CEILING, attenuate_pauses, limit, match_level
from vcvae.features.mel import level


def decibels(samples, seconds=1.0):
    """The level of each stretch of `seconds`, about its mean."""
    size = round(seconds * RATE)
    stretches = samples[: len(samples) // size * size].reshape(-1, size)
    return 20 * np.log10(stretches.std(axis=1) + 1e-9)


def tone(frequency, seconds):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def test_attenuate_pauses_follows_the_source_there_and_nowhere_else():
    """In a pause the level is the source's if it was higher."""
    generator = torch.Generator().manual_seed(0)
    source_mel = torch.randn(2, 80, 120, generator=generator) - 3
    converted = torch.randn(2, 80, 120, generator=generator) - 3
    source_mel[:, :, 40:80] -= 6
    source_mel[:, :, 100:] -= 2  # quiet, and no pause
    converted[0, :, 40:80] -= 2
    converted[1, :, 40:80] -= 8
    result = attenuate_pauses(converted, source_mel)
    torch.testing.assert_close(result[1], converted[1])
    torch.testing.assert_close(result[0, :, :36], converted[0, :, :36])
    torch.testing.assert_close(result[0, :, 84:], converted[0, :, 84:])

    def pause_level(mel):
        return level(mel[:1, :, 45:75]) - level(mel[:1])

    assert pause_level(converted) > pause_level(source_mel) + 3
    torch.testing.assert_close(pause_level(result), pause_level(source_mel), atol=0.2, rtol=0)


def test_match_level_gives_the_level_of_the_source_without_offsets():
    source, converted = 0.1 * tone(150, 3.0) + 0.3, 0.02 * tone(250, 3.0)
    matched = match_level(converted, source, RATE)
    assert matched.dtype == np.float32
    np.testing.assert_allclose(decibels(matched), decibels(source), atol=0.01)


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.3])
def test_match_level_of_short_and_of_silent_signals(seconds):
    samples = np.ones(round(seconds * RATE), np.float32) * 0.1
    for source, converted in ((samples, samples), (samples, 0 * samples), (0 * samples, samples)):
        matched = match_level(converted, source, RATE)
        assert matched.shape == samples.shape
        assert np.isfinite(matched).all()
        assert np.abs(matched).max() <= 1


def test_limit_leaves_what_is_within_full_scale():
    samples = 0.98 * tone(300, 0.5)
    assert limit(samples, RATE) is samples


@pytest.mark.parametrize("peak", [1.1, 1.4, 1.7])
def test_limit_keeps_the_level_and_does_not_clip(peak):
    """Beating tones whose peaks exceed full scale, by up to 5 dB: they bend where clipping would leave flat tops."""
    samples = sum(tone(frequency, 3.0) for frequency in (150, 203, 307, 411, 533))
    samples *= np.float32(peak) / np.abs(samples).max()
    limited = limit(samples, RATE)
    assert np.abs(limited).max() <= CEILING + 1e-6
    assert np.abs(decibels(limited) - decibels(samples)).max() < 0.5
    assert (np.abs(limited) > 0.999 * CEILING).sum() < 0.25 * (np.abs(samples) > 0.999 * CEILING).sum()


def test_limit_of_a_single_peak_changes_its_surroundings_alone():
    samples = 0.3 * tone(200, 1.0)
    samples[11000:11010] += 1.0
    limited = limit(samples, RATE)
    assert np.abs(limited).max() <= CEILING + 1e-6
    np.testing.assert_allclose(limited[:5000], samples[:5000], rtol=0.03, atol=1e-4)
    np.testing.assert_allclose(limited[17000:], samples[17000:], rtol=0.03, atol=1e-4)
