"""From a corpus to prepared audio: mono FLAC at the model's rate, and lhotse's manifests of train, dev and test.

audio/<speaker>/….flac         trimmed, level-checked
audio/<speaker>/cuts.jsonl     what was measured, so that running again measures nothing again
train|dev|test/cuts.jsonl.gz   manifests, whose paths are relative to themselves; no speaker is in two
left-out.tsv                   each file that is not used, and why
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path

import numpy as np
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

from vcvae import audio
from vcvae.data.corpora import LeftOut, Utterance, find
from vcvae.defaults import MINIMUM_SECONDS
from vcvae.errors import VcvaeError, disk_errors, replacing
from vcvae.features.mel import bandwidth

MANIFEST = "cuts.jsonl.gz"
MEASURED = "cuts.jsonl"
REPORT = "left-out.tsv"
MAX_CLIPPED = 1e-3  # share of samples at full scale; one sample in each period of a low voice is above it
JUDGES = 64  # speakers in dev and in test, at most: more voices are of more use in training


class Preparation:
    """The work on a corpus, done by going through it: yields each file's cut, or why it was left out.

    `splits` holds the speakers of train, dev and test once all is done.
    """

    def __init__(
        self,
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
    ) -> None:
        """`dev` and `test` are numbers of speakers: by default a tenth of them, and none of less than four.

        Silence at either end of a recording is left out, but for speakers whose names begin with `parallel`, where it
        is given: who say the same at the same time are to stay in step.

        Raises:
            VcvaeError: `source` does not look like the corpus or has too few speakers, or `destination` lies within it.
        """
        if destination.resolve().is_relative_to(source.resolve()):
            raise VcvaeError(f"{destination}: lies within {source}, and would be read as speech; choose another place.")
        self.source, self.destination, self.jobs = source, destination, jobs
        self.sample_rate, self.minimum = sample_rate, round(minimum_seconds * sample_rate)
        self.dev, self.test, self.seed, self.parallel = dev, test, seed, parallel
        self.found = find(corpus, source)
        speakers = {item.speaker for item in self.found if isinstance(item, Utterance)}
        split(list(speakers), dev=dev, test=test, seed=seed)  # refuses what could not be split before the work is done
        self.splits: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[LeftOut | MonoCut]:
        """Prepare what is missing, then write the manifests and the report.

        Raises:
            VcvaeError: nothing that could be used, too few speakers, or a destination that cannot be written.
        """
        left_out = [item for item in self.found if isinstance(item, LeftOut)]
        yield from left_out
        speakers = []
        for speaker, results in groupby(self._results(), key=lambda result: result[0].speaker):
            cuts = []
            for _, result in results:
                (cuts if isinstance(result, MonoCut) else left_out).append(result)
                yield result
            if cuts:
                speakers.append(speaker)
                with replacing(self.destination / "audio" / speaker / MEASURED) as file:
                    file.writelines(json.dumps(cut.to_dict()).encode() + b"\n" for cut in cuts)
        with replacing(self.destination / REPORT) as file:
            file.write(b"file\treason\n")
            file.writelines(f"{path}\t{reason}\n".encode() for path, reason in left_out)
        if not speakers:
            raise VcvaeError(
                f"{self.source}: none of its {len(self)} files could be used; see {self.destination / REPORT}."
            )
        self.splits = split(speakers, dev=self.dev, test=self.test, seed=self.seed)
        for name, members in self.splits.items():
            _write_manifest(self.destination, name, members)

    def _results(self) -> Iterator[tuple[Utterance, LeftOut | MonoCut]]:
        """Of each utterance, those of a speaker one after another."""
        utterances = [item for item in self.found if isinstance(item, Utterance)]
        with disk_errors(self.destination):
            for folder in {_output(self.destination, utterance).parent for utterance in utterances}:
                folder.mkdir(parents=True, exist_ok=True)
        work = partial(
            _prepare_one,
            destination=self.destination,
            sample_rate=self.sample_rate,
            minimum=self.minimum,
            parallel=self.parallel,
        )
        yield from zip(utterances, each(work, utterances, jobs=self.jobs, chunk=8), strict=True)


def each(work: Callable, *arguments: Iterable, jobs: int, chunk: int = 1) -> Iterator:
    """What `work` gives for each of the `arguments`, in their order, by so many processes.

    Raises:
        VcvaeError: a process was killed.
    """
    if jobs == 1:
        yield from map(work, *arguments)
        return
    try:
        with ProcessPoolExecutor(jobs) as pool:
            yield from pool.map(work, *arguments, chunksize=chunk)
    except BrokenProcessPool:
        raise VcvaeError(
            "--jobs: a process was ended from outside, perhaps for lack of memory; run the same command with fewer."
        ) from None


def split(speakers: list[str], *, dev: int | None, test: int | None, seed: int) -> dict[str, list[str]]:
    """The speakers of train, dev and test, by a hash of seed and name: a speaker more moves few of the others.

    Example:
        >>> {name: len(chosen) for name, chosen in split(list("abcdefghij"), dev=None, test=2, seed=0).items()}
        {'train': 7, 'dev': 1, 'test': 2}

    Raises:
        VcvaeError: no speakers are left to train with.
    """
    default = min(JUDGES, max(1, len(speakers) // 10)) if len(speakers) >= 4 else 0
    dev, test = (default if number is None else number for number in (dev, test))
    if dev + test >= len(speakers):
        raise VcvaeError(f"--dev {dev} and --test {test}: leave none of {len(speakers)} speakers to train; lower them.")
    order = sorted(speakers, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return {
        "train": sorted(order[dev : len(order) - test]),
        "dev": sorted(order[:dev]),
        "test": sorted(order[len(order) - test :]),
    }


def _write_manifest(destination: Path, name: str, speakers: list[str]) -> None:
    """A split's manifest; an export of what the split was before is no longer valid."""
    manifest = destination / name / MANIFEST
    with disk_errors(manifest):
        before = manifest.read_bytes() if manifest.is_file() else None
        if speakers:
            manifest.parent.mkdir(exist_ok=True)
            with replacing(manifest) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                for speaker in speakers:
                    with open(destination / "audio" / speaker / MEASURED, "rb") as lines:
                        shutil.copyfileobj(lines, packed)
        else:
            manifest.unlink(missing_ok=True)
        if before is not None and not (speakers and before == manifest.read_bytes()):
            (manifest.parent / "shar" / "index.json").unlink(missing_ok=True)


def _output(destination: Path, utterance: Utterance) -> Path:
    return destination / "audio" / utterance.speaker / f"{utterance.name}.flac"


@lru_cache(maxsize=2)
def _measured(path: Path) -> dict[str, MonoCut]:
    return {cut.id: cut for cut in CutSet.from_jsonl_lazy(path)} if path.is_file() else {}


def _kept(output: Path, sample_rate: int, minimum: int) -> np.ndarray | None:
    """What an earlier run wrote, where it is whole."""
    try:
        if soundfile.info(output).samplerate == sample_rate:
            return audio.read(output, sample_rate, min_samples=minimum)
    except (VcvaeError, soundfile.SoundFileError):
        pass
    return None


def _prepare_one(
    utterance: Utterance, *, destination: Path, sample_rate: int, minimum: int, parallel: str | None
) -> LeftOut | MonoCut:
    output, identity = _output(destination, utterance), f"{utterance.speaker}/{utterance.name}"
    before = _measured(destination / "audio" / utterance.speaker / MEASURED).get(identity)
    if before and before.sampling_rate == sample_rate and output.is_file() and before.num_samples >= minimum:
        return before
    trim = not (parallel and utterance.speaker.startswith(parallel))
    samples = _kept(output, sample_rate, minimum)
    if samples is None:
        try:
            samples = audio.read(utterance.path, sample_rate, trim=trim, min_samples=minimum, max_clipped=MAX_CLIPPED)
        except VcvaeError as error:
            return LeftOut(utterance.path, str(error).removeprefix(f"{utterance.path}: "))
        samples *= min(1.0, 0.99 / np.abs(samples).max())
        audio.write(output, samples, sample_rate, force=True)
    duration = len(samples) / sample_rate
    recording = Recording(
        id=identity,
        sources=[AudioSource(type="file", channels=[0], source=f"../audio/{identity}.flac")],
        sampling_rate=sample_rate,
        num_samples=len(samples),
        duration=duration,
    )
    supervision = SupervisionSegment(
        id=identity, recording_id=identity, start=0.0, duration=duration, speaker=utterance.speaker
    )
    return MonoCut(
        id=identity,
        start=0.0,
        duration=duration,
        channel=0,
        recording=recording,
        supervisions=[supervision],
        custom={"bandwidth": round(bandwidth(samples, sample_rate))},
    )
