"""Making a reader: the weights of a speech recognizer's encoder are packed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from vcvae.models.moonshine import SAMPLE_RATE, MoonshineEncoder, load_moonshine
from vcvae.models.pretrained import check_vacant
from vcvae.models.reader import Reader, ReaderConfig
from vcvae.training.excerpts import Track, beginning, drawn, segments, untracked
from vcvae.training.packing import pack, refine

BATCH, SEGMENT = 8, 4.0  # recordings of a step, and seconds that are heard of each


def save_reader(
    data: Path,
    destination: Path,
    *,
    teacher: str | Path | None = None,
    count: int,
    steps: int,
    seed: int = 0,
    force: bool = False,
    track: Track = untracked,
) -> float:
    """Make one of the recordings of a prepared folder, and write it: float16 and packed weights.

    Returns its `agreement` with the teacher on recordings of which it was not made; not a number, where the folder
    holds no more than `count`. For the rest, see `make_reader`.

    Raises:
        VcvaeError: no prepared folder, no teacher, a model in `destination`, or one that cannot be written.
    """
    check_vacant(destination, force)
    network, config = load_moonshine(teacher), ReaderConfig()
    recordings, judges = drawn(data, config.sample_rate, count=count, seed=seed)
    made = make_reader(network, recordings, config, count=count, steps=steps, seed=seed, track=track)
    found = agreement(made, network, judges) if judges else float("nan")
    made.release(destination)
    return found


def make_reader(
    teacher: MoonshineEncoder,
    recordings: Sequence[Path],
    config: ReaderConfig | None = None,
    *,
    count: int,
    steps: int = 0,
    seed: int = 0,
    track: Track = untracked,
) -> Reader:
    """The `teacher` with weights of few values, by what it reads in recordings of many speakers.

    The first `count` of them say how its weights are rounded, and in each of the `steps` some that are drawn are heard,
    for what rounding has changed to be learned back. `track` is given the steps of either and a word for what is done,
    and gives them back as they are wanted.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    reader = Reader(config).eval()
    rate = reader.config.sample_rate
    wanted = pack(
        teacher, reader.encoder, (_resampled(beginning(x, rate), rate) for x in track(recordings[:count], "listening"))
    )
    if not steps:
        return reader

    def error(samples: Tensor) -> Tensor:
        with torch.no_grad():
            known = teacher(samples).float()
        return F.mse_loss(reader.encoder(samples).float(), known)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        places = (torch.randint(len(recordings), (BATCH,)) for _ in track(range(steps), "refining"))
        batches = (segments([beginning(recordings[i], rate) for i in place], round(SEGMENT * rate)) for place in places)
        refine(reader.encoder, wanted, (_resampled(batch, rate) for batch in batches), error, steps=steps)
    return reader


@torch.no_grad()
def agreement(reader: Reader, teacher: MoonshineEncoder, recordings: Iterable[Path]) -> float:
    """Mean cosine of what the reader and the teacher read in the frames of recordings.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    rate, found = reader.config.sample_rate, []
    for recording in recordings:
        samples = beginning(recording, rate)
        found.append(torch.cosine_similarity(reader(samples), teacher(_resampled(samples, rate))).mean())
    return torch.stack(found).mean().item()


def _resampled(samples: Tensor, rate: int) -> Tensor:
    return torchaudio.functional.resample(samples, rate, SAMPLE_RATE)
