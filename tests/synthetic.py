"""Generated speech: "speakers" who say the same "words", so that the ideal conversion is known.

A source (a pulse train at the speaker's F0, or noise) passes through a vocal tract (resonances at the formants of each
phone, scaled by the speaker). `speak("aiu", f0=110)` and `speak("aiu", f0=220, tract=1.2)`
hold the same phones at the same times in two voices.
"""

from __future__ import annotations

import numpy as np

RATE = 22050  # Hz, of the mel

PHONES = {  # formants in Hz of a tract of scale 1 (vowels: Peterson and Barney 1952, men)
    "a": (730, 1090, 2440, 3400),
    "e": (530, 1840, 2480, 3500),
    "i": (270, 2290, 3010, 3600),
    "o": (570, 840, 2410, 3300),
    "u": (300, 870, 2240, 3300),
    "s": (4500, 5500, 6500, 7500),
    "f": (1500, 3500, 6000, 7500),
    " ": (500, 1500, 2500, 3500),
}


def speak(
    words: str,
    *,
    f0: float = 120.0,
    tract: float = 1.0,
    seconds: float = 1.0,
    sample_rate: int = RATE,
    seed: int = 0,
) -> np.ndarray:
    """`words`, a string of `PHONES` (a space is silent), as (samples,) float32 with a peak of 0.5.

    Args:
        f0: mean fundamental frequency of the vowels, Hz; it varies by ±10 %.
        tract: every formant is multiplied by it: 1.0 for a long vocal tract, 1.2 for a short one.
        seconds: of the whole; the phones share it equally.
        seed: of the F0 contour and the noise; the phones' times do not depend on it.
    """
    random, samples = np.random.default_rng(seed), round(seconds * sample_rate)
    time = np.arange(samples) / sample_rate
    phones = np.array(list(words))[np.arange(samples) * len(words) // samples]
    contour = 1 + 0.1 * np.sin(2 * np.pi * (random.uniform(0.5, 2) * time + random.uniform()))
    pulses = np.diff(np.floor(np.cumsum(f0 * contour) / sample_rate), prepend=0)
    noise = 0.004 * random.standard_normal(samples)
    source = np.select([phones == " ", np.isin(phones, ["s", "f"])], [0.0, noise], pulses)
    source = np.pad(source, 512)

    # The tract: frames of 512 samples are multiplied by its resonances at their middle, and overlap by 3/4.
    window, frequencies = np.sqrt(np.hanning(513)[:-1]), np.fft.rfftfreq(512, 1 / sample_rate)
    output = np.zeros(samples + 1024)
    for start in range(0, samples + 512, 128):
        phone = phones[np.clip(start - 256, 0, samples - 1)]
        formants = tract * np.array(PHONES[phone], float)[:, None]
        widths = 50 + 0.05 * formants
        gains = formants**2 / np.hypot(formants**2 - frequencies**2, widths * formants)
        frame = source[start : start + 512] * window
        output[start : start + 512] += window * np.fft.irfft(np.fft.rfft(frame) * gains.prod(axis=0))
    output = output[512 : 512 + samples]
    return (0.5 * output / (np.abs(output).max() or 1)).astype(np.float32)
