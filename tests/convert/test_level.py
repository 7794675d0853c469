"""The level of a synthesized signal follows its source's, and its peaks stay within full scale."""

import numpy as np
import pytest
import torch

from tests.synthetic import RATE, speak
from vcvae.convert.level import CEILING, attenuate_pauses, follow_level, limit, match_level, match_seconds
from vcvae.features.mel import MelConfig, MelSpectrogram, level

CONFIG = MelConfig()


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


def stairs(*steps, seconds=2.0):
    """Gains in dB, each for `seconds`, one for each sample."""
    return np.repeat(10 ** (np.array(steps) / 20), round(seconds * RATE)).astype(np.float32)


def ln_mel(samples):
    return MelSpectrogram()(torch.from_numpy(samples)[None])


def voiced(mel):
    return torch.ones(1, mel.shape[2])


@pytest.mark.parametrize("steps", [(0, -20, 0), (-20, 0, -12), (0, -6, -12, -18, -24), (0, -35)])
def test_follow_level_gives_soft_and_loud_passages_their_level(steps):
    seconds = 3.0 * len(steps)
    source = ln_mel(speak("aeiou" * len(steps), f0=120, seconds=seconds) * stairs(*steps, seconds=3.0))
    decoded = ln_mel(speak("aeiou" * len(steps), f0=130, seconds=seconds))  # at one level throughout
    followed = follow_level(decoded + 3, source, voiced(source), CONFIG)
    for i in range(len(steps)):
        middle = slice(258 * i + 86, 258 * i + 172)
        assert abs(level(followed[:, :, middle]) - level(source[:, :, middle])).item() < 2 / 8.7


def test_follow_level_of_ordinary_speech_is_one_gain():
    """Where no second differs by much."""
    generator = torch.Generator().manual_seed(0)
    source = ln_mel(speak("aisoeufa uio eisauo", f0=110, seconds=6.0))
    decoded = source + 2 + 0.3 * torch.randn(source.shape, generator=generator)
    gain = follow_level(decoded, source, voiced(source), CONFIG) - decoded
    gain = gain[decoded > decoded.amax() - 6]
    assert len(gain) > 1000
    assert gain.max() - gain.min() < 1e-4


def test_follow_level_restores_held_notes_between_bursts():
    """What a decoder makes of a note without an end: silence, and extreme frames at both ends."""
    source = ln_mel(0.3 * tone(150, 4.0))
    decoded = ln_mel(0.3 * tone(200, 4.0)) - 9
    decoded[:, :, :3] += 15
    decoded[:, :, -2:] += 15
    followed = follow_level(decoded, source, voiced(source), CONFIG)
    middle = slice(10, -10)
    assert abs(level(followed[:, :, middle]) - level(source[:, :, middle])).item() < 0.15
    for end in (slice(0, 8), slice(-8, None)):
        assert (level(followed[:, :, end]) - level(source[:, :, end])).item() < 1.2


def test_follow_level_does_not_raise_pauses_but_lowers_them():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(1, 80, 400, generator=generator) - 3
    decoded = torch.randn(1, 80, 400, generator=generator) - 3
    voicing = torch.ones(1, 400)
    cleaner, noisier = slice(100, 200), slice(300, 400)
    source[:, :, cleaner] -= 4
    decoded[:, :, cleaner] -= 8
    source[:, :, noisier] -= 6
    decoded[:, :, noisier] -= 3
    voicing[:, cleaner] = voicing[:, noisier] = 0
    followed = follow_level(decoded, source, voicing, CONFIG)
    assert level(followed[..., 130:170]) - level(source[..., 130:170]) < -3
    assert abs(level(followed[..., 330:370]) - level(source[..., 330:370])) < 0.3


def test_follow_level_of_silence_is_silence():
    silence = torch.full((1, 80, 50), -11.5129)
    followed = follow_level(torch.randn(1, 80, 50), silence, torch.zeros(1, 50), CONFIG)
    assert followed.isfinite().all()
    assert level(followed) < level(silence) + 1


@pytest.mark.parametrize("errors", [(0, 6, 0), (0, -6, 0), (6, 0, 0, -6)])
def test_match_seconds_corrects_large_errors(errors):
    source = 0.3 * tone(150, 3.0 * len(errors))
    converted = 0.1 * tone(250, 3.0 * len(errors)) * stairs(*errors, seconds=3.0)
    matched = match_seconds(converted, source, np.ones(-(-len(source) // 256)), CONFIG)
    assert matched.dtype == np.float32
    assert np.abs(decibels(matched) - decibels(source)).max() < 3


def test_match_seconds_corrects_the_end_of_a_word_without_its_louder_beginning():
    source = 0.3 * tone(150, 5.0)

    def with_end(gain):
        return source * np.concatenate([stairs(0, seconds=3.0), stairs(gain, seconds=0.25), stairs(-60, seconds=1.75)])

    voicing = np.ones(-(-len(source) // 256))
    matched = match_seconds(with_end(-4), with_end(-12), voicing, CONFIG)
    assert np.abs(decibels(matched) - decibels(with_end(-12)))[:4].max() < 3


def test_match_seconds_removes_thumps():
    """Of less than the lowest voice's frequency, which no recording of a voice needs."""
    source = 0.3 * tone(150, 4.0) * stairs(0, -30)
    thump = 0.2 * tone(10, 4.0) * np.exp(-(((np.arange(len(source)) / RATE - 3.5) / 0.1) ** 2)).astype(np.float32)
    matched = match_seconds(source + thump, source, np.ones(-(-len(source) // 256)), CONFIG)
    assert np.abs(decibels(matched) - decibels(source))[[0, 1, 3]].max() < 1


def test_match_seconds_leaves_small_errors():
    source = 0.3 * tone(150, 9.0)
    converted = 0.1 * tone(250, 9.0) * stairs(0, 1.5, 0, seconds=3.0)
    matched = match_seconds(converted, source, np.ones(-(-len(source) // 256)), CONFIG)
    assert np.ptp(decibels(matched) - decibels(converted)) < 0.05


def test_match_seconds_lowers_what_is_unvoiced_and_does_not_raise_it():
    source = 0.3 * tone(150, 9.0) * stairs(0, -20, 0, seconds=3.0)
    voicing = np.repeat([1.0, 0.0, 1.0], 259)[: -(-len(source) // 256)]
    for change in (-6, 6):
        converted = 0.3 * tone(150, 9.0) * stairs(0, -20 + change, 0, seconds=3.0)
        pause = decibels(match_seconds(converted, source, voicing, CONFIG))[4] - decibels(source)[4]
        assert pause == pytest.approx(min(change, 0), abs=0.5)


@pytest.mark.parametrize("offset", [0.3, 0.1 * tone(12, 3.0)])
def test_match_seconds_counts_neither_an_offset_nor_rumble(offset):
    source, converted = 0.1 * tone(150, 3.0), 0.3 * tone(250, 3.0) * stairs(0, 5, 0, seconds=1.0)
    voicing = np.ones(-(-len(source) // 256))
    matched, expected = (match_seconds(converted, x, voicing, CONFIG) for x in (source + offset, source))
    shape = decibels(matched) - decibels(expected)
    assert np.ptp(shape) < 0.5


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
