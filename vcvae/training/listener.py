"""Making a listener: an ECAPA-TDNN hears mels instead of waveforms, and its weights are packed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import soxr
import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.mel import MelConfig, MelSpectrogram
from vcvae.models.ecapa import SAMPLE_RATE, EcapaTDNN, filterbank, load_ecapa
from vcvae.models.listener import AROUND, Listener, ListenerConfig
from vcvae.models.pretrained import check_vacant
from vcvae.training.excerpts import Track, beginning, drawn, segments, untracked
from vcvae.training.packing import pack, refine
from vcvae.training.perturbation import Perturbation, PerturbationConfig

RIDGE = 1e-6  # of the mean power of the mels, added in all directions
FRAMES = 0.3  # weight of the error of single frames, beside that of who speaks
BATCH, SEGMENT = 6, 256  # recordings of a step, and frames that are heard of each: 3 s
PERTURBED = PerturbationConfig(warp=0.2, equalizer=3.0, noise=0.5)  # conversions are not like recordings, either


def save_listener(
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

    Returns its `likeness` to the teacher on recordings of which it was not made; not a number, where the folder holds
    no more than `count`. For the rest, see `make_listener`.

    Raises:
        VcvaeError: no prepared folder, no teacher, a model in `destination`, or one that cannot be written.
    """
    check_vacant(destination, force)
    network, config = load_ecapa(teacher), ListenerConfig()
    recordings, judges = drawn(data, config.mel.sample_rate, count=count, seed=seed)
    made = make_listener(network, recordings, config, count=count, steps=steps, seed=seed, track=track)
    found = likeness(made, network, judges) if judges else float("nan")
    made.release(destination)
    return found


def make_listener(
    teacher: EcapaTDNN,
    recordings: Sequence[Path],
    config: ListenerConfig | None = None,
    *,
    count: int,
    steps: int = 0,
    seed: int = 0,
    track: Track = untracked,
) -> Listener:
    """The `teacher` as a listener, by what it hears in recordings of many speakers.

    The first `count` of them say how its weights are rounded, and in each of the `steps` some that are drawn are heard,
    perturbed, for what rounding has changed to be learned back. `track` is given the steps of either and a word for
    what is done, and gives them back as they are wanted.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    listener, heard = Listener(config).eval(), _Heard((config or ListenerConfig()).mel)
    with torch.no_grad():
        sums, mels = LeastSquares(), []
        for mel, bands in map(heard, track(recordings[:count], "listening")):
            around = listener.retimed(mel).unfold(2, 2 * AROUND + 1, 1)[0, :, : bands.shape[2]]
            sums.add(around.transpose(0, 1).flatten(1), bands[0, :, : around.shape[1]].T)
            mels.append(mel)
        weight, bias = sums.solution()
        listener.bands.weight.copy_(weight.unflatten(1, listener.bands.weight.shape[1:]))
        listener.bands.bias.copy_(bias)
        wanted = pack(teacher, listener.network, (listener.bands(listener.retimed(mel)) for mel in mels))
    if not steps:
        return listener
    perturb = Perturbation(PERTURBED, listener.config.mel)

    @torch.no_grad()
    def draw() -> Tensor:
        mels = [heard.mel(recordings[i]) for i in torch.randint(len(recordings), (BATCH,))]
        return listener.bands(listener.retimed(perturb(segments(mels, SEGMENT))))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batches = (draw() for _ in track(range(steps), "refining"))
        refine(listener.network, wanted, batches, partial(_unlike, teacher, listener.network), steps=steps)
    return listener


def _unlike(teacher: EcapaTDNN, network: EcapaTDNN, bands: Tensor) -> Tensor:
    """How far what is said of bands (batch, bands, frames) is from what the teacher says, of speakers and of frames."""
    with torch.no_grad():
        known = teacher.frames(bands)
        speaker = teacher.summary(known).float()
    said = network.frames(bands)
    cosine = torch.cosine_similarity(network.summary(said).float(), speaker).mean()
    return 1 - cosine + FRAMES * F.mse_loss(said.float(), known.float()) / known.float().var()


@torch.no_grad()
def likeness(listener: Listener, teacher: EcapaTDNN, recordings: Iterable[Path]) -> float:
    """Mean cosine of what the listener hears in recordings with what the teacher does.

    Raises:
        VcvaeError: a recording that cannot be used.
    """
    heard = map(_Heard(listener.config.mel), recordings)
    return torch.cat([torch.cosine_similarity(listener(mel), teacher(bands)) for mel, bands in heard]).mean().item()


class _Heard:
    """A recording's beginning → its mel (1, n_mels, frames), and what the teacher hears of it (1, bands, frames)."""

    def __init__(self, mel: MelConfig) -> None:
        self.config, self.spectrogram = mel, MelSpectrogram(mel)

    def __call__(self, recording: Path) -> tuple[Tensor, Tensor]:
        samples = beginning(recording, self.config.sample_rate, multiple=self.config.hop)
        resampled = soxr.resample(samples[0].numpy(), self.config.sample_rate, SAMPLE_RATE)
        return self.spectrogram(samples), filterbank(torch.from_numpy(resampled)[None])

    def mel(self, recording: Path) -> Tensor:
        return self.spectrogram(beginning(recording, self.config.sample_rate, multiple=self.config.hop))


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
