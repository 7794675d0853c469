"""The level of what is synthesized: that of the source at every moment, and peaks within full scale.

A decoder normalizes over a whole piece: of a held note nothing is left but noise that bursts at its ends, and soft
passages come out as loud as loud ones. Gains that follow the source restore each passage's level. They begin where a
second would differ by some decibels, so that ordinary speech keeps the decoder's dynamics, and raise only where the
source is voiced: a decoder's pauses are cleaner than a recording's, and stay so.

Levels are in nepers: natural logarithms of amplitudes.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from vcvae.features.f0 import MIN_F0
from vcvae.features.mel import MelConfig, band_centres, level
from vcvae.features.stft import moving_average

Array = TypeVar("Array", np.ndarray, Tensor)

DECIBELS = 20 / np.log(10)  # of a neper
LOWEST_FREQUENCY = MIN_F0 * 0.8  # Hz; rumble below does not count
SMOOTHING_FRAMES = 5  # mel frames over which levels are averaged: 58 ms

PAUSE_THRESHOLD = 3.5  # nepers (30 dB) below the mean level, under which a source is taken to pause
SOFT = 10 / DECIBELS  # nepers below the mean level, under which a passage has its own threshold of pauses

VOICELESS_WEIGHT = 0.05  # of frames of which none is voiced, in a piece's gain
PASSAGE_ERROR = (3.0, 4.0)  # decibels of a second's error at which a decoded mel's gain begins, and is in full
SECOND_ERROR = (2.0, 3.0)  # the same of a waveform, whose gain corrects what the vocoder adds
MAX_SECOND_GAIN = 8 / DECIBELS  # nepers, in each of the rounds
SECOND_ROUNDS = 6  # at most
NO_GAIN = 0.1 / DECIBELS  # nepers, below which no further round is worth its time
QUIET = 45 / DECIBELS  # nepers below the highest level, under which nothing is raised
WEAK = 26 / DECIBELS  # nepers below the highest level nearby, under which a frame has no part in a passage's gain
NEARBY_SECONDS = 1.5  # to either side
MAX_EXCESS = 8 / DECIBELS  # nepers by which a frame may exceed its source, whose short gaps do not count
SHORT_FRAMES = 3  # mel frames over which the level of a waveform is averaged: 35 ms, two periods of a low voice
GAP_SECONDS = 0.25  # length of a gap: the closure of a stop, a weak consonant

CEILING = 0.99  # of full scale; no sample exceeds it
SLOW_SECONDS, FAST_SECONDS = 0.01, 0.001  # over which the limiter's two gains change
SLOW_REDUCTION = 0.5  # smallest slow gain; a peak that needs a smaller one is reduced by the fast gain as well
LIMITER_ROUNDS = 8  # in which the level is restored that the reduction of peaks takes away
LEVEL_SECONDS = 0.5  # over which the limiter keeps the level


def follow_level(decoded: Tensor, source_mel: Tensor, voicing: Tensor, config: MelConfig) -> Tensor:
    """A decoded ln-mel at the level of its source at every moment, and in pauses not above it; (1, n_mels, frames).

    `voicing` (1, frames) is the probability that a frame of the source is voiced.
    """
    first_band = int((band_centres(config) < LOWEST_FREQUENCY).sum())
    voicing = voicing[:, None]
    source = _frame_power_levels(source_mel[:, first_band:])
    converted = _frame_power_levels(decoded[:, first_band:])
    # One gain for all, which a few extreme frames do not change.
    weight = torch.exp(source - source.amax()) * (voicing + VOICELESS_WEIGHT)
    piece_gain = _weighted_median((source - converted).flatten(), weight.flatten())
    converted = converted + piece_gain
    gain = _passage_gain(source, converted, voicing, config.frame_rate)
    excess = converted + gain - _closed(source, config.frame_rate) - MAX_EXCESS
    threshold = _passage_level(source_mel, voicing, config.frame_rate)
    followed = attenuate_pauses(
        decoded + piece_gain + gain - excess.clamp(min=0),
        source_mel,
        source_level=threshold,
        converted_level=threshold,
    )
    return followed.clamp(min=math.log(config.floor))


def attenuate_pauses(
    converted: Tensor,
    source_mel: Tensor,
    *,
    source_level: Tensor | float | None = None,
    converted_level: Tensor | float | None = None,
) -> Tensor:
    """Make a conversion as quiet as its source where the source pauses; ln-mels (batch, n_mels, frames).

    A decoder gives the mean of the noises that it was trained on, which is louder than a quiet recording's pauses.
    Levels, in nepers, are those of the whole, where the mels are parts of it; by default, those of the mels.
    """
    source_level = _frame_levels(source_mel) - (level(source_mel) if source_level is None else source_level)
    converted_level = _frame_levels(converted) - (level(converted) if converted_level is None else converted_level)
    weight = (-PAUSE_THRESHOLD - source_level).clamp(0, 1)  # rises over one neper, so that nothing is cut off abruptly
    return converted + weight * (source_level - converted_level).clamp(max=0)


def match_seconds(converted: np.ndarray, source: np.ndarray, voicing: np.ndarray, config: MelConfig) -> np.ndarray:
    """`match_level`, after gains for the seconds in which the levels of both, (samples,), differ by some decibels.

    A frame gets the mean of the gains that the seconds around it need. Each has the inverse of its power as weight:
    where a soft passage borders on a loud one, the seconds that a frame dominates say what it needs. `voicing`
    (frames,) is the probability that a mel frame of the source is voiced.
    """
    second = round(config.frame_rate) | 1
    source_power = _frame_powers(_without_rumble(source, config.sample_rate), config)
    source_level = _levels(source_power, second)
    short_levels = torch.from_numpy(_levels(source_power, SHORT_FRAMES))[None, None]
    highest = _closed(short_levels, config.frame_rate)[0, 0].numpy() + MAX_EXCESS
    weight = torch.from_numpy(np.exp(source_level) * (voicing + VOICELESS_WEIGHT))
    raised = (5 * _mean_of_windows(voicing, second)).clip(max=1)
    raised = raised * (source_level > source_level.max() - QUIET)
    centres = (np.arange(len(voicing)) + 0.5) * config.hop
    # A vocoder makes thumps of steps in level.
    matched = _without_rumble(converted, config.sample_rate)
    matched = matched * _gain(matched, source)
    for _ in range(SECOND_ROUNDS):
        power = _frame_powers(matched, config)
        matched_level = _levels(power, second)
        error = torch.from_numpy(source_level - matched_level)
        error = (error - _weighted_median(error, weight)).clamp(-MAX_SECOND_GAIN, MAX_SECOND_GAIN).numpy()
        importance = np.exp(-2 * matched_level)
        gain = _mean_of_windows(error * _share(error, SECOND_ERROR) * importance, second)
        gain = gain / _mean_of_windows(importance, second)
        gain = gain * np.where(gain > 0, raised, 1)
        gain = _mean_of_windows(gain, second // 8 | 1)
        gain = gain - (_levels(power, SHORT_FRAMES) + gain - highest).clip(min=0)
        if np.abs(gain).max() < NO_GAIN:
            break
        gain = np.exp(np.interp(np.arange(len(matched)), centres, gain))
        matched = matched * gain
        matched = matched * _gain(matched, source)
    return match_level(matched, source, config.sample_rate)


def match_level(converted: np.ndarray, source: np.ndarray, sample_rate: int) -> np.ndarray:
    """Converted samples (samples,) with the variance of the source's, limited to full scale. Offsets do not count."""
    return limit((converted * _gain(converted, source)).astype(np.float32), sample_rate)


def _gain(converted: np.ndarray, source: np.ndarray) -> np.float32:
    return np.float32(np.sqrt(max(source.var(dtype=float), 1e-12) / max(converted.var(dtype=float), 1e-12)))


def limit(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Samples (samples,) with peaks reduced to `CEILING`, and nearly the power of before in each half second.

    A gain goes down before a peak and up after it without a corner: the minimum of what all samples nearby need is
    averaged twice within the same window. Large reductions are left to a second, faster gain. What the level loses is
    restored by a gain before the reduction, in several rounds. Samples that do not exceed the ceiling are unchanged.
    """
    if np.abs(samples).max(initial=0) <= CEILING:
        return samples

    import scipy.ndimage  # a third of a second, which few conversions need

    def power(values: np.ndarray) -> np.ndarray:
        return scipy.ndimage.uniform_filter1d(np.square(values, dtype=float), round(LEVEL_SECONDS * sample_rate))

    target_power = power(samples) + 1e-12
    gain = np.ones(len(samples))
    for _ in range(LIMITER_ROUNDS):
        limited = _reduce_peaks(samples * gain, sample_rate)
        deficit = target_power / (power(limited) + 1e-12)
        if deficit.max() < 1.01:
            break
        gain = (gain * deficit).clip(min=1)  # twice the loss in decibels: most of what is added is lost again
    return limited.astype(np.float32)


def _reduce_peaks(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    slow = _reduction(samples, round(SLOW_SECONDS * sample_rate), SLOW_REDUCTION)
    fast = _reduction(samples * slow, round(FAST_SECONDS * sample_rate), 0.0)
    return samples * slow * fast


def _reduction(samples: np.ndarray, window: int, smallest: float) -> np.ndarray:
    """The smooth gain, at least `smallest`, that reduces all peaks to the ceiling."""
    import scipy.ndimage

    window = window // 2 * 2 + 1
    needed = (CEILING / np.maximum(np.abs(samples), CEILING)).clip(min=smallest)
    minimum = scipy.ndimage.minimum_filter1d(needed, window, mode="nearest")
    for _ in range(2):  # two means, of half the window each, reach as far as the minimum does
        minimum = scipy.ndimage.uniform_filter1d(minimum, window // 2 | 1, mode="nearest")
    return minimum


def _frame_levels(mel: Tensor) -> Tensor:
    """The smoothed level of each frame, in nepers, (batch, 1, frames)."""
    return _smoothed(torch.exp(2 * mel).sum(dim=1, keepdim=True).log() / 2)


def _frame_power_levels(mel: Tensor) -> Tensor:
    """The level of the smoothed power of each frame, in nepers, (batch, 1, frames): a burst of one frame counts."""
    return _smoothed(torch.exp(2 * mel).sum(dim=1, keepdim=True)).clamp(min=1e-30).log() / 2


def _smoothed(frames: Tensor) -> Tensor:
    # Not `moving_average`: at the ends the window shrinks, where repeating a single end frame would count it thrice.
    return F.avg_pool1d(frames, SMOOTHING_FRAMES, 1, SMOOTHING_FRAMES // 2, count_include_pad=False)


def _share(error: Array, begin_and_full: tuple[float, float]) -> Array:
    """The share of a level error (nepers) that is corrected, from 0 to 1, by its decibels."""
    begin, full = begin_and_full
    return ((abs(error) * DECIBELS - begin) / (full - begin)).clip(0, 1)


def _closed(levels: Tensor, frame_rate: float) -> Tensor:
    """Levels (batch, 1, frames) with gaps of up to `GAP_SECONDS` filled: a morphological closing."""
    return -_highest_nearby(-_highest_nearby(levels, GAP_SECONDS / 2 * frame_rate), GAP_SECONDS / 2 * frame_rate)


def _highest_nearby(levels: Tensor, reach: float) -> Tensor:
    """The highest level within `reach` frames to either side."""
    frames = round(reach)
    return F.max_pool1d(levels, 2 * frames + 1, 1, frames)


def _mean_of_second(values: Tensor, frame_rate: float) -> Tensor:
    """The mean of a second around each frame, (1, 1, frames); at the ends, of what there is."""
    window = round(frame_rate) | 1
    return F.avg_pool1d(values, window, 1, window // 2, count_include_pad=False)


def _level_of_second(levels: Tensor, frame_rate: float) -> Tensor:
    return _mean_of_second(torch.exp(2 * levels), frame_rate).clamp(min=1e-30).log() / 2


def _passage_level(source_mel: Tensor, voicing: Tensor, frame_rate: float) -> Tensor:
    """The level below which a source pauses by `PAUSE_THRESHOLD`, (1, 1, frames): its mean, or a soft passage's own."""
    whole = level(source_mel)
    seconds = _level_of_second(_frame_power_levels(source_mel), frame_rate)
    passage = torch.where(_mean_of_second(voicing, frame_rate) > 0.05, seconds, -100.0)
    passage = _highest_nearby(passage, frame_rate)
    is_soft = (passage > -100) & (passage < whole - SOFT)
    return torch.where(is_soft, passage + SOFT, whole)


def _passage_gain(source: Tensor, converted: Tensor, voicing: Tensor, frame_rate: float) -> Tensor:
    """The gain in nepers, (1, 1, frames), by which passages get the level of the source.

    It is the median of the level differences within a second, which changes at once where a level does.
    """
    above = source - _highest_nearby(source, NEARBY_SECONDS * frame_rate)
    audible = (source - source.amax() + QUIET).clamp(0, 1) * voicing
    weight = audible * (above + WEAK).clamp(0, 1) * torch.exp(above / 2)
    reach = round(frame_rate / 2)
    differences, weights = (
        F.pad(values, (reach, reach)).unfold(2, 2 * reach + 1, 1)[0, 0] for values in (source - converted, weight)
    )
    median, total = _weighted_median(differences, weights), weights.sum(dim=1)
    enough = (total > 1).cpu().numpy()
    if not enough.any():
        return torch.zeros_like(source)
    frames = np.arange(len(enough))
    median = median.new_tensor(np.interp(frames, frames[enough], median.cpu().numpy()[enough]))
    trust = (total / 4).clamp(0, 1)
    error = _level_of_second(source, frame_rate) - _level_of_second(converted, frame_rate)
    share = _highest_nearby(_share(error * trust, PASSAGE_ERROR), frame_rate / 2)[0, 0]
    gain = median * share
    return moving_average(torch.where(gain > 0, gain * trust, gain)[None, None], SMOOTHING_FRAMES)


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """The median of the last dimension; of weights that are all zero, any value."""
    values, order = values.sort(dim=-1)
    sums = weights.gather(-1, order).cumsum(dim=-1)
    middle = (sums < sums[..., -1:] / 2).sum(dim=-1, keepdim=True)
    return values.gather(-1, middle.clamp(max=values.shape[-1] - 1))[..., 0]


def _frame_powers(samples: np.ndarray, config: MelConfig) -> np.ndarray:
    """The power of each mel frame, (ceil(samples / hop),)."""
    return np.pad(np.square(samples), (0, -len(samples) % config.hop)).reshape(-1, config.hop).mean(axis=1)


def _without_rumble(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """A Butterworth high-pass of fourth order, in two sections, that starts as if the first sample had always been."""
    filtered = torch.from_numpy(samples.astype(float) - samples[0])
    omega = 2 * math.pi * LOWEST_FREQUENCY / sample_rate
    for angle in (math.pi / 8, 3 * math.pi / 8):  # of the pairs of poles
        alpha = math.sin(omega) * math.cos(angle)
        poles = torch.tensor([1 + alpha, -2 * math.cos(omega), 1 - alpha], dtype=torch.float64)
        zeros = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64) * (1 + math.cos(omega)) / 2
        filtered = torchaudio.functional.lfilter(filtered, poles, zeros, clamp=False)
    return filtered.numpy()


def _levels(powers: np.ndarray, frames: int) -> np.ndarray:
    """The level, in nepers, of `frames` frames around each."""
    return np.log(_mean_of_windows(powers, frames).clip(min=1e-12)) / 2


def _mean_of_windows(values: np.ndarray, frames: int) -> np.ndarray:
    """The mean of `frames` values, an odd number, around each of (frames,); the ends are repeated."""
    return moving_average(torch.from_numpy(values)[None, None], frames)[0, 0].numpy()
