"""Making a listener: an ECAPA-TDNN hears mels instead of waveforms, and its weights are packed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from vcvae import audio
from vcvae.data.manifest import Manifest
from vcvae.features.fbank import SAMPLE_RATE, filterbank
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.models.frozen.ecapa import EcapaTDNN, EcapaTrunk, load_ecapa
from vcvae.models.frozen.speaker_similarity import AROUND, SpeakerSimilarityNet, SpeakerSimilarityNetConfig
from vcvae.models.hub import check_vacant
from vcvae.training.packing import pack

RIDGE = 1e-6  # of the mean power of the mels, added in all directions
JUDGES = 40  # recordings, of which nothing is made, by which is judged what is
LONGEST = 10.0  # seconds that are heard of a recording

Track = Callable[[Sequence, str], Iterable]


def untracked(steps: Sequence, _: str) -> Iterable:
    """A `Track` that shows nothing."""
    return steps


def save_listener(
    data: Path,
    destination: Path,
    *,
    teacher: str | Path | None = None,
    count: int,
    seed: int = 0,
    force: bool = False,
    track: Track = untracked,
) -> float:
    """Make one of `count` recordings of a prepared folder, and write it.

    Returns its `likeness` to the teacher on other recordings; not a number, where the folder holds no more. `track` is
    given the recordings and a word for what is done, and gives them back as they are wanted.

    Raises:
        VcvaeError: no prepared folder, no teacher, a model in `destination`, or one that cannot be written.
    """
    check_vacant(destination, force)
    network, config = load_ecapa(teacher), SpeakerSimilarityNetConfig()
    recordings, judges = _drawn(data, config.mel.sample_rate, count=count, seed=seed)
    made = make_listener(network, track(recordings, "listening"), config)
    found = likeness(made, network, judges) if judges else float("nan")
    made.release(destination)
    return found


@torch.no_grad()
def make_listener(
    teacher: EcapaTDNN, recordings: Iterable[Path], config: SpeakerSimilarityNetConfig | None = None
) -> SpeakerSimilarityNet:
    """The `teacher` as a listener, by what it hears in recordings of many speakers.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    listener = SpeakerSimilarityNet(config).eval()
    sums, mels = LeastSquares(), []
    for mel, bands in map(_Heard(listener.config.mel), recordings):
        around = listener.retimed(mel).unfold(2, 2 * AROUND + 1, 1)[0, :, : bands.shape[2]]
        sums.add(around.transpose(0, 1).flatten(1), bands[0, :, : around.shape[1]].T)
        mels.append(mel)
    weight, bias = sums.solution()
    listener.bands.weight.copy_(weight.unflatten(1, listener.bands.weight.shape[1:]))
    listener.bands.bias.copy_(bias)
    pack(teacher, listener.network, (listener.bands(listener.retimed(mel)) for mel in mels))
    return listener


@torch.no_grad()
def likeness(listener: SpeakerSimilarityNet, teacher: EcapaTrunk, recordings: Iterable[Path]) -> float:
    """Mean cosine of what the listener hears in recordings with what the teacher does.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    heard = map(_Heard(listener.config.mel), recordings)
    cosines = [torch.cosine_similarity(listener(mel), teacher.pooled_statistics(bands)) for mel, bands in heard]
    return torch.cat(cosines).mean().item()


def _drawn(data: Path, sample_rate: int, *, count: int, seed: int) -> tuple[list[Path], list[Path]]:
    """Some recordings of a prepared folder, and others, where there are more, that judge."""
    spoken = [path for path, _ in Manifest(data, sample_rate).utterances()]
    order = [spoken[i] for i in np.random.default_rng(seed).permutation(len(spoken))]
    return order[:count], order[count : count + JUDGES]


class _Heard:
    """A recording's beginning → its mel (1, n_mels, frames), and what the teacher hears of it (1, bands, frames)."""

    def __init__(self, mel: MelConfig) -> None:
        self.config, self.spectrogram = mel, MelSpectrogram(mel)

    def __call__(self, recording: Path) -> tuple[Tensor, Tensor]:
        rate, hop = self.config.sample_rate, self.config.hop
        samples = audio.read(recording, rate)[: round(LONGEST * rate)]
        samples = samples[: len(samples) // hop * hop]
        bands = filterbank(torch.from_numpy(soxr.resample(samples, rate, SAMPLE_RATE))[None])
        return self.spectrogram(torch.from_numpy(samples)[None]), bands


class LeastSquares:
    """The linear map and the shift that take inputs (samples, n) nearest to outputs (samples, m), part by part."""

    def __init__(self) -> None:
        self.inputs, self.both = 0.0, 0.0

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        x = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1).double()
        self.inputs, self.both = self.inputs + x.T @ x, self.both + x.T @ outputs.double()

    def solution(self) -> tuple[Tensor, Tensor]:
        """(m, n) and (m,)."""
        ridge = RIDGE * self.inputs.diagonal().mean() * torch.eye(len(self.inputs), dtype=torch.float64)
        found = torch.linalg.solve(self.inputs + ridge, self.both).float()
        return found[:-1].T, found[-1]
