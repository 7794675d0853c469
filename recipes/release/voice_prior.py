"""Fit the prior of voices, from which `vcvae voice --draw` and `vcvae anonymize` draw, to the training speakers.

    python recipes/release/voice_prior.py speech/speakers.tsv

The table has a first line with the columns corpus, speaker and split; the recordings of a speaker lie in
`corpus/speaker/` beside the table, and the speakers of the split `train` are used. Writes `voices.safetensors` beside
the weights of the model, for which alone the prior is; about a minute of a CPU core for 300 speakers.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch

from vcvae import Encoder, audio
from vcvae.cli.console import progress_bar
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion.prior import FILE, VoicePrior
from vcvae.pretrained import CONVERSION

SECONDS = 10.0  # of each recording
RECORDINGS = 2  # of each speaker, at most


def training_speakers(table: Path) -> list[Path]:
    """The folder of each speaker of the split `train`."""
    with open(table, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "train"]
    return [table.parent / row["corpus"] / row["speaker"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the speakers: corpus, speaker and split, with tabs between")
    parser.add_argument("--model", type=Path, default=CONVERSION, help="folder of the model (default: the released)")
    options = parser.parse_args()
    encoder = Encoder.from_pretrained(options.model, device="cpu")
    rate = encoder.mel_config.sample_rate
    folders = training_speakers(options.table)
    embeddings, statistics, left_out = [], [], []
    with progress_bar("encoding") as progress:
        for number, folder in enumerate(folders):
            progress(number, len(folders), folder.name)
            try:
                recordings = [audio.read(path, rate, trim=True) for path in audio.find(folder)[:RECORDINGS]]
                voice = encoder.voice([samples[: round(SECONDS * rate)] for samples in recordings])
            except VcvaeError as error:
                left_out.append(f"{folder}: {error}")
                continue
            if voice.f0_statistics.std > 0:  # also not NaN
                embeddings.append(encoder.model.speaker.centred(voice.reference.embedding))
                statistics.append(voice.f0_statistics)
    prior = VoicePrior.fit(torch.cat(embeddings), F0Statistics.join(statistics), encoder.fingerprint)
    prior.save(options.model / FILE)
    size = (options.model / FILE).stat().st_size
    print(f"{options.model / FILE}: {len(embeddings)} speakers, {size / 1000:.0f} kB")
    for reason in left_out:
        print(f"left out: {reason}")


if __name__ == "__main__":
    main()
