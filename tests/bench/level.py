"""The level of conversions, second by second. Run by hand: `python tests/bench/level.py [--voice FILE] [-o FOLDER]`.

Sources are soft and loud passages, held notes and long silence, made of the repository's recordings and of generated
vowels. Prints of each, and of all, how many seconds of its conversion miss the source's level by more than 3 dB, and
the largest error. Seconds on both sides of a step of 18 dB or more count apart, and so do pauses, which are 45 dB below
the source's loudest second: of these the level of the loudest one is printed, relative to that second. With -o, sources
and conversions are written there.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vcvae import Converter, Voice, audio
from vcvae.cli.console import progress_bar
from vcvae.pretrained import SENTENCES

FOLDER = Path(__file__).parents[2] / "egs" / "convert"
TOLERANCE = 3.0  # dB
PAUSE = 45.0  # dB below the loudest second ...
SILENCE = -65.0  # dB relative to full scale; or this, where it is higher
STEP = 18.0  # dB from one second of a source to the next
FORMANTS = ((650, 1.0), (1100, 0.5), (2500, 0.2))  # Hz and amplitude of the vowel's
SPEAKERS = 4  # whose sentences are used beside the recordings


def amplitude(decibels: float | np.ndarray) -> np.ndarray:
    return np.float32(10) ** np.asarray(decibels / 20, np.float32)


def vowel_gain(frequency: np.ndarray) -> np.ndarray:
    """The amplitude of a vowel's resonances at frequencies in Hz."""
    return sum(a / np.hypot(1 - (frequency / f) ** 2, frequency / (8 * f)) for f, a in FORMANTS)


def vowel(seconds: float, rate: int, *, f0: float = 140.0) -> np.ndarray:
    """A held vowel with a vibrato of .3 semitones, (samples,), with a peak of .3."""
    at = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(f0 * 2 ** (0.3 / 12 * np.sin(2 * np.pi * 5 * at))) / rate
    samples = sum(vowel_gain(np.float64(f0 * k)) / k * np.cos(k * phase) for k in range(1, 50))
    return to_peak(samples, 0.3)


def whisper(seconds: float, rate: int) -> np.ndarray:
    """The same vowel, of noise."""
    samples = round(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(samples))
    return to_peak(np.fft.irfft(spectrum * vowel_gain(np.fft.rfftfreq(samples, 1 / rate)), samples), 0.3)


def hum(seconds: float, rate: int) -> np.ndarray:
    """Three harmonics of 120 Hz with a little noise."""
    phase = 2 * np.pi * 120 * np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(phase))
    harmonics = np.cos(phase) + 0.4 * np.cos(2 * phase + 0.3) + 0.1 * np.cos(3 * phase + 1)
    return to_peak(harmonics + 0.005 * noise, 0.2)


def to_peak(samples: np.ndarray, peak: float) -> np.ndarray:
    return (samples * peak / np.abs(samples).max()).astype(np.float32)


def recordings(rate: int) -> dict[str, np.ndarray]:
    """The sources by what they are, (samples,) each."""
    sentences = audio.find(SENTENCES)
    paths = [FOLDER / "source.flac", FOLDER / "target.flac", *sentences[:: len(sentences) // SPEAKERS][:SPEAKERS]]
    speech = [to_peak(audio.read(path, rate, trim=True), 0.5) for path in paths]
    a, b, c, d, e, f = speech

    def lasting(samples: np.ndarray, seconds: float) -> np.ndarray:
        """The samples again and again, for so many seconds."""
        return np.resize(samples, round(seconds * rate))

    def passages(seconds: float, *levels: float) -> np.ndarray:
        """A passage of each speaker, at levels in dB."""
        return np.concatenate([lasting(x, seconds) * amplitude(g) for x, g in zip(speech, levels, strict=False)])

    swell = -30 * (0.5 + 0.5 * np.cos(2 * np.pi * np.arange(20 * rate) / (10 * rate)))
    faint_noise = np.random.default_rng(3).standard_normal(20 * rate).astype(np.float32) * 1e-4
    digital_silence = np.zeros(15 * rate, np.float32)
    return {
        "English": a,
        "Italian": b,
        "soft after loud, 20 dB": passages(10, 0, -20),
        "loud after soft, 20 dB": passages(10, -20, 0),
        "soft between loud, 30 dB": passages(8, 0, -30, 0),
        "another level every 3 s": passages(3, 0, -15, -3, -25, -10, 0),
        "six speakers, each softer": passages(6, 0, -6, -12, -18, -24, -30),
        "vowel, 10 s": vowel(10, rate),
        "vowel, 40 s": vowel(40, rate),
        "vowel that swells by 30 dB": vowel(20, rate, f0=180) * amplitude(swell),
        "vowel at five levels": vowel(20, rate) * np.repeat(amplitude(np.array([0, -20, 0, -30, -10])), 4 * rate),
        "vowel within speech": np.concatenate([lasting(c, 6), vowel(12, rate, f0=160), lasting(d, 6)]),
        "whispered vowel, 40 s": whisper(40, rate),
        "hum, 40 s": hum(40, rate),
        "speech after faint noise": np.concatenate([faint_noise, lasting(e, 8)]),
        "speech between silence": np.concatenate([digital_silence, lasting(f, 6), digital_silence, lasting(a, 5)]),
    }


def decibels_of_seconds(samples: np.ndarray, rate: int) -> np.ndarray:
    """The level of each whole second about its mean, dB relative to full scale."""
    seconds = samples[: len(samples) // rate * rate].reshape(-1, rate).astype(np.float64)
    return 10 * np.log10(seconds.var(axis=1) + 1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", type=Path, default=FOLDER / "target.voice")
    parser.add_argument("-o", "--output", type=Path, help="a folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    converter, voice = Converter.from_pretrained(device="cpu"), Voice.load(arguments.voice)
    rate = converter.mel_config.sample_rate
    sources = recordings(rate)
    table = Table("source", "missed", "worst, dB", "beside a step", "worst, dB", "loudest pause, dB")
    errors_of_all, steps_of_all = [], []
    began = time.process_time()
    with progress_bar("converting") as progress:
        for number, (name, source) in enumerate(sources.items()):
            progress(number, len(sources), name)
            converted, _ = converter.convert(source, voice)
            if arguments.output:
                arguments.output.mkdir(parents=True, exist_ok=True)
                for kind, samples in (("source", source), ("converted", converted)):
                    audio.write(arguments.output / f"{number:02d}.{kind}.flac", samples, rate, force=True)
            level = decibels_of_seconds(source, rate)
            error = decibels_of_seconds(converted, rate) - level
            is_pause = level <= max(level.max() - PAUSE, SILENCE)
            is_large = np.abs(np.diff(level)) >= STEP
            is_step = ~is_pause & (np.append(False, is_large) | np.append(is_large, False))
            errors, steps = np.abs(error[~is_pause & ~is_step]), np.abs(error[is_step])
            errors_of_all.append(errors)
            steps_of_all.append(steps)
            pauses = (level + error)[is_pause] - level.max()
            table.add_row(name, *_row(errors), *_row(steps), f"{pauses.max():.0f}" if len(pauses) else "")
    table.add_section()
    table.add_row("all", *_row(np.concatenate(errors_of_all)), *_row(np.concatenate(steps_of_all)), "")
    Console(width=120).print(table)
    print(f"{time.process_time() - began:.0f} s of CPU time")


def _row(errors: np.ndarray) -> tuple[str, str]:
    """How many of some seconds are missed, and the largest error, where there are any."""
    if not len(errors):
        return "", ""
    return f"{(errors > TOLERANCE).sum()} of {len(errors)}", f"{errors.max():.1f}"


if __name__ == "__main__":
    main()
