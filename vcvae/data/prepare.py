"""From a corpus to prepared audio: mono FLAC at the model's sample rate, and lhotse manifests of train, dev and test.

audio/<speaker>/….flac         trimmed and checked
audio/<speaker>/cuts.jsonl     what was measured, so that the next run need not measure it again
train|dev|test/cuts.jsonl.gz   manifests, with paths relative to themselves; each speaker is in one of them
left-out.tsv                   each file that is not used, and why
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path

import numpy as np
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

from vcvae import audio
from vcvae.data.corpora import LeftOut, Utterance, find
from vcvae.data.cuts import MANIFEST, MAX_TEXT
from vcvae.data.pool import map_in_processes
from vcvae.data.shar import INDEX, SHAR
from vcvae.defaults import MINIMUM_SECONDS
from vcvae.errors import VcvaeError, check_folder, disk_errors, remove_unfinished, replacing
from vcvae.features.mel import bandwidth
from vcvae.progress import Progress, no_progress

SPEAKER_CUTS = "cuts.jsonl"
REPORT = "left-out.tsv"
MAX_CLIPPED = 1e-3  # share of samples at full scale; one sample per period of a low voice exceeds it
MAX_HOURS = 1.0  # of a recording, all of which is held at once
MAX_HELD_OUT = 64  # speakers in dev and in test by default; beyond these, training gains more from them


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did: how many `utterances` are in the manifests, the files left out, and the speakers by split."""

    utterances: int
    left_out: list[LeftOut]
    splits: dict[str, list[str]]


def prepare(
    corpus: str,
    source: Path,
    destination: Path,
    *,
    sample_rate: int,
    minimum_seconds: float = MINIMUM_SECONDS,
    dev: int | None = None,
    test: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    parallel: str | None = None,
    progress: Progress = no_progress,
) -> PrepareReport:
    """Prepare the recordings of a corpus in `source`; those already prepared are kept.

    Args:
        corpus: a name in `vcvae.data.corpora.CORPORA`.
        sample_rate: Hz, of the prepared audio.
        minimum_seconds: shorter recordings are left out.
        dev, test: numbers of speakers; by default a tenth of them each, or none of fewer than four.
        seed: of the choice of the dev and test speakers.
        jobs: processes.
        parallel: prefix of the names of the speakers that form a parallel group: their recordings of one name have the
            same words at the same times. The manifests list the group, and these recordings are not trimmed.
        progress: called with the number of files done.

    Raises:
        VcvaeError: `source` is not the corpus, has too few speakers, or no file that can be used; no two speakers have
            the prefix `parallel`; or `destination` lies within `source` or cannot be written.
    """
    check_folder(destination)
    if destination.resolve().is_relative_to(source.resolve()):
        raise VcvaeError(f"{destination}: lies within {source}, and would be read as speech; choose another place.")
    files = find(corpus, source)
    utterances = [file for file in files if isinstance(file, Utterance)]
    left_out = [file for file in files if isinstance(file, LeftOut)]
    names = {utterance.speaker for utterance in utterances}
    split(list(names), dev=dev, test=test, seed=seed)  # raises before the work is done
    if parallel is not None and sum(name.startswith(parallel) for name in names) < 2:
        raise VcvaeError(f"--parallel {parallel}: the names of fewer than two speakers begin with it; give a prefix.")
    options = {"destination": destination, "sample_rate": sample_rate, "parallel": parallel}
    results = _prepare_all(utterances, jobs=jobs, minimum=round(minimum_seconds * sample_rate), **options)
    done, speakers, prepared = len(left_out), [], 0
    progress(done, len(files), "preparing")
    for speaker, of_speaker in groupby(results, key=lambda result: result[0].speaker):
        cuts = []
        for _, result in of_speaker:
            (cuts if isinstance(result, MonoCut) else left_out).append(result)
            done += 1
            progress(done, len(files), "preparing")
        if cuts:
            speakers.append(speaker)
            prepared += len(cuts)
            with replacing(destination / "audio" / speaker / SPEAKER_CUTS) as file:
                file.writelines(json.dumps(cut.to_dict()).encode() + b"\n" for cut in cuts)
    with replacing(destination / REPORT) as file:
        file.write(b"file\treason\n")
        file.writelines(f"{path}\t{reason}\n".encode(errors="surrogateescape") for path, reason in left_out)
    if not speakers:
        raise VcvaeError(f"{source}: none of its {len(files)} files could be used; see {destination / REPORT}.")
    splits = split(speakers, dev=dev, test=test, seed=seed)
    for name, members in splits.items():
        _write_manifest(destination, name, members)
    return PrepareReport(prepared, left_out, splits)


def split(speakers: list[str], *, dev: int | None, test: int | None, seed: int) -> dict[str, list[str]]:
    """The speakers of train, dev and test, by a hash of seed and name: one more speaker moves few of the others.

    Example:
        >>> {name: len(members) for name, members in split(list("abcdefghij"), dev=None, test=2, seed=0).items()}
        {'train': 7, 'dev': 1, 'test': 2}

    Raises:
        VcvaeError: no speakers are left to train with.
    """
    default = min(MAX_HELD_OUT, max(1, len(speakers) // 10)) if len(speakers) >= 4 else 0
    dev = default if dev is None else dev
    test = default if test is None else test
    if dev + test >= len(speakers):
        raise VcvaeError(f"--dev {dev} and --test {test}: leave none of {len(speakers)} speakers to train; lower them.")
    order = sorted(speakers, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return {
        "train": sorted(order[dev : len(order) - test]),
        "dev": sorted(order[:dev]),
        "test": sorted(order[len(order) - test :]),
    }


def _prepare_all(
    utterances: list[Utterance], *, destination: Path, jobs: int, **options
) -> Iterator[tuple[Utterance, LeftOut | MonoCut]]:
    """Each utterance with its cut, or why it is left out."""
    with disk_errors(destination):
        for folder in {_output(destination, utterance).parent for utterance in utterances}:
            folder.mkdir(parents=True, exist_ok=True)
            remove_unfinished(folder)
    function = partial(_prepare_one, destination=destination, **options)
    yield from zip(utterances, map_in_processes(function, utterances, jobs=jobs, chunk=8), strict=True)


def _prepare_one(
    utterance: Utterance, *, destination: Path, sample_rate: int, minimum: int, parallel: str | None
) -> LeftOut | MonoCut:
    output, identity = _output(destination, utterance), f"{utterance.speaker}/{utterance.name}"
    group = parallel if parallel and utterance.speaker.startswith(parallel) else None
    earlier = _read_cuts(destination / "audio" / utterance.speaker / SPEAKER_CUTS).get(identity)
    # Recordings of a group are not trimmed, so one whose group has changed is made again.
    same_group = earlier is None or (earlier.custom or {}).get("parallel_group") == group
    same_audio = earlier and same_group and earlier.sampling_rate == sample_rate and output.is_file()
    if same_audio and earlier.num_samples >= minimum:
        earlier.supervisions[0].text = _read_transcript(utterance.transcript)
        return earlier
    samples = _read_prepared(output, sample_rate, minimum) if same_group else None
    if samples is None:
        try:
            hours = audio.duration(utterance.path) / 3600
            if MAX_HOURS < hours < math.inf:
                raise VcvaeError(f"{hours:.1f} hours long; cut it into parts of at most {MAX_HOURS:g} h")
            samples = audio.read(
                utterance.path,
                sample_rate,
                trim=group is None,
                min_samples=minimum,
                max_seconds=3600 * MAX_HOURS,
                max_clipped=MAX_CLIPPED,
            )
        except VcvaeError as error:
            return LeftOut(utterance.path, str(error).removeprefix(f"{utterance.path}: "))
        samples *= min(1.0, 0.99 / max(samples.max(), -samples.min()))
        audio.write(output, samples, sample_rate, force=True)
    return _make_cut(utterance, samples, sample_rate, group)


def _make_cut(utterance: Utterance, samples: np.ndarray, sample_rate: int, group: str | None) -> MonoCut:
    identity = f"{utterance.speaker}/{utterance.name}"
    duration = len(samples) / sample_rate
    recording = Recording(
        id=identity,
        sources=[AudioSource(type="file", channels=[0], source=f"../audio/{identity}.flac")],
        sampling_rate=sample_rate,
        num_samples=len(samples),
        duration=duration,
    )
    supervision = SupervisionSegment(
        id=identity,
        recording_id=identity,
        start=0.0,
        duration=duration,
        text=_read_transcript(utterance.transcript),
        speaker=utterance.speaker,
    )
    custom = {"bandwidth": round(bandwidth(samples, sample_rate))}
    if group is not None:
        custom["parallel_group"] = group
    return MonoCut(
        id=identity,
        start=0.0,
        duration=duration,
        channel=0,
        recording=recording,
        supervisions=[supervision],
        custom=custom,
    )


def _read_transcript(transcript: str | Path) -> str | None:
    """The words of an utterance; None where they are unknown, or more than those of one utterance."""
    if isinstance(transcript, Path):
        try:
            with open(transcript, encoding="utf-8-sig") as file:
                transcript = file.read(MAX_TEXT)
        except (OSError, UnicodeDecodeError):
            return None
    words = " ".join(transcript.split())
    return words if 0 < len(words) < MAX_TEXT and "\0" not in words else None


def _output(destination: Path, utterance: Utterance) -> Path:
    return destination / "audio" / utterance.speaker / f"{utterance.name}.flac"


@lru_cache(maxsize=2)
def _read_cuts(path: Path) -> dict[str, MonoCut]:
    """The cuts of a speaker that an earlier run measured, by their ids; none where its list is damaged."""
    if not path.is_file():
        return {}
    try:
        cuts = list(CutSet.from_jsonl_lazy(path))
        return {cut.id: cut for cut in cuts if cut.num_samples > 0 and cut.sampling_rate > 0}
    except Exception:  # JSON and lhotse raise different ones; all is measured again
        return {}


def _read_prepared(output: Path, sample_rate: int, minimum: int) -> np.ndarray | None:
    """The audio that an earlier run wrote, unless it is missing, damaged, or of another sample rate."""
    try:
        if soundfile.info(output).samplerate == sample_rate:
            return audio.read(output, sample_rate, min_samples=minimum)
    except (VcvaeError, soundfile.SoundFileError):
        pass
    return None


def _write_manifest(destination: Path, name: str, speakers: list[str]) -> None:
    """The manifest of a split; shards exported from a different one are invalidated."""
    manifest = destination / name / MANIFEST
    with disk_errors(manifest):
        earlier = manifest.read_bytes() if manifest.is_file() else None
        if speakers:
            manifest.parent.mkdir(exist_ok=True)
            with replacing(manifest) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                for speaker in speakers:
                    with open(destination / "audio" / speaker / SPEAKER_CUTS, "rb") as lines:
                        shutil.copyfileobj(lines, packed)
        else:
            manifest.unlink(missing_ok=True)
        if earlier is not None and not (speakers and earlier == manifest.read_bytes()):
            (manifest.parent / SHAR / INDEX).unlink(missing_ok=True)
