"""From a folder of speakers to prepared audio: mono FLAC at the model's rate, with a lhotse manifest beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

from vcvae import audio
from vcvae.errors import VcvaeError, disk_errors
from vcvae.mel import bandwidth

MANIFEST = "cuts.jsonl.gz"


@dataclass(frozen=True)
class LeftOut:
    """A file that was not prepared, and why."""

    path: Path
    reason: str


def prepare(
    source: Path, destination: Path, *, sample_rate: int, minimum_seconds: float = 1.0, jobs: int = 1
) -> Iterator[LeftOut | MonoCut]:
    """Prepare `source/speaker/**/*` under `destination`; yields each file's cut, or why it was left out, as it is done.

    Writes `audio/<speaker>/….flac` (trimmed, mono) and, at the end, the manifest `cuts.jsonl.gz`, in which a cut's
    speaker is its supervision's and `custom["bandwidth"]` is in Hz. Files that are there already are not made again.

    Raises:
        VcvaeError: no speaker folders with audio in `source`, nothing in it that could be used, or a `destination`
            that cannot be written or lies within the source.
    """
    if destination.resolve().is_relative_to(source.resolve()):
        raise VcvaeError(f"{destination}: lies within {source}, and would be read as speech; choose another place.")
    found = audio.find(source)
    yield from (LeftOut(path, "not in a speaker's folder") for path in found if path.parent == source)
    files = [path for path in found if path.parent != source]
    if not files:
        raise VcvaeError(f"{source}: no speaker folders; put each speaker's recordings in a folder of their own.")
    prepare_one = partial(
        _prepare_file,
        source=source,
        destination=destination,
        sample_rate=sample_rate,
        minimum=round(minimum_seconds * sample_rate),
    )
    cuts = []
    with disk_errors(destination):
        for folder in {(destination / "audio" / path.relative_to(source)).parent for path in files}:
            folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs) as pool:
        for result in pool.map(prepare_one, files, chunksize=8):
            if isinstance(result, MonoCut):
                cuts.append(result)
            yield result
    if not cuts:
        raise VcvaeError(f"{source}: none of its {len(files)} files could be used; the report says why.")
    unfinished = destination / f"unfinished-{MANIFEST}"
    with disk_errors(destination):
        CutSet.from_cuts(cuts).to_file(unfinished)
        os.replace(unfinished, destination / MANIFEST)


def _prepare_file(path: Path, *, source: Path, destination: Path, sample_rate: int, minimum: int) -> LeftOut | MonoCut:
    name = path.relative_to(source)
    speaker = name.parts[0]
    relative = Path("audio") / name.with_name(f"{name.name}.flac")
    output = destination / relative
    try:
        if output.exists() and soundfile.info(output).samplerate == sample_rate:
            samples = audio.read(output, sample_rate, min_samples=minimum)
        else:
            samples = audio.read(path, sample_rate, trim=True, min_samples=minimum)
            samples *= min(1.0, 0.99 / np.abs(samples).max())
            audio.write(output, samples, sample_rate, force=True)
    except VcvaeError as error:
        return LeftOut(path, str(error))
    identity = name.with_suffix("").as_posix()
    duration = len(samples) / sample_rate
    recording = Recording(
        id=identity,
        sources=[AudioSource(type="file", channels=[0], source=str(relative))],
        sampling_rate=sample_rate,
        num_samples=len(samples),
        duration=duration,
    )
    supervision = SupervisionSegment(id=identity, recording_id=identity, start=0.0, duration=duration, speaker=speaker)
    return MonoCut(
        id=identity,
        start=0.0,
        duration=duration,
        channel=0,
        recording=recording,
        supervisions=[supervision],
        custom={"bandwidth": round(bandwidth(samples, sample_rate))},
    )
