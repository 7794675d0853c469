"""Fit the prior of voices, from which `vcvae voice --draw` and `vcvae anonymize` draw, to the training speakers.

    python recipes/release/voice_prior.py exp/prepared/train --model my-model
    python recipes/release/voice_prior.py speech/speakers.tsv

The speakers are those of a prepared folder, or of a table. The table has a first line with the columns corpus, speaker
and split; the recordings of a speaker lie in `corpus/speaker/` beside it, and the speakers of the split `train` are
used. Writes `voices.safetensors` beside the weights of the model, for which alone the prior is; about a minute of a CPU
core for 300 speakers.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import torch

from vcvae import Encoder, audio
from vcvae.cli.console import progress_bar
from vcvae.data.manifest import Manifest
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion.prior import PRIOR_FILE, VoicePrior
from vcvae.pretrained import CONVERSION

SECONDS = 10.0  # of each recording
RECORDINGS = 2  # of each speaker, at most


def training_speakers(place: Path, sample_rate: int) -> dict[str, list[Path]]:
    """The recordings of each speaker of a prepared folder, or of the split `train` of a table.

    Raises:
        VcvaeError: a folder that is not prepared, or a speaker of the table without recordings.
    """
    recordings: dict[str, list[Path]] = {}
    if place.is_dir():
        for path, speaker in Manifest(place, sample_rate).utterances():
            recordings.setdefault(speaker, []).append(path)
        return recordings
    with open(place, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "train"]
    for row in rows:
        recordings[f"{row['corpus']}/{row['speaker']}"] = audio.find(place.parent / row["corpus"] / row["speaker"])
    return recordings


def fit(model: Path, speakers: Path) -> None:
    """Fit the prior, and save it beside the weights of the model.

    Raises:
        VcvaeError: no model, or fewer than four speakers that can be used.
    """
    encoder = Encoder.from_pretrained(model, device="cpu")
    rate = encoder.mel_config.sample_rate
    recordings_of = training_speakers(speakers, rate)
    embeddings, statistics, left_out = [], [], []
    with progress_bar("encoding") as progress:
        for number, (speaker, paths) in enumerate(recordings_of.items()):
            progress(number, len(recordings_of), speaker)
            try:
                recordings = [audio.read(path, rate, trim=True) for path in paths[:RECORDINGS]]
                voice = encoder.voice([samples[: round(SECONDS * rate)] for samples in recordings])
            except VcvaeError as error:
                left_out.append(f"{speaker}: {error}")
                continue
            if voice.f0_statistics.std > 0:  # also not NaN
                embeddings.append(encoder.model.centred_embedding(voice))
                statistics.append(voice.f0_statistics)
    for reason in left_out:
        print(f"left out: {reason}")
    if not embeddings:
        raise VcvaeError(f"{speakers}: no speaker with voiced speech; a prior needs four or more.")
    prior = VoicePrior.fit(torch.cat(embeddings), F0Statistics.join(statistics), encoder.fingerprint)
    prior.save(model / PRIOR_FILE)
    print(f"{model / PRIOR_FILE}: {len(embeddings)} speakers, {(model / PRIOR_FILE).stat().st_size / 1000:.0f} kB")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speakers", type=Path, help="a prepared folder, or a table of corpus, speaker and split")
    parser.add_argument("--model", type=Path, default=CONVERSION, help="folder of the model (default: the released)")
    options = parser.parse_args(arguments)
    try:
        fit(options.model, options.speakers)
    except VcvaeError as error:
        sys.exit(f"voice_prior.py: {error}")


if __name__ == "__main__":
    main()
