"""A conversion model whose statistics over time are running ones, for speech that arrives in pieces.

Instance normalization and the level take their statistics from a whole utterance. In a stream they are means over what
has arrived: cumulative ones at first, which begin at those of typical speech, and exponential ones later. The
convolutions need no change: a window of frames passes through the model again and again, as it moves on, and the frames
near its end see less of what follows, as at the ends of the training segments.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vcvae.features.f0 import F0Contour, F0Statistics
from vcvae.features.mel import MEL_STD
from vcvae.models.conversion.config import REDUCTION
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.models.layers import InstanceNorm, Level, Mask

MEMORY = 15.0  # seconds of speech after which running statistics forget
PRIOR = 2.0  # seconds of speech that the statistics of typical speech count for
F0_STD_PRIOR = 3.0  # the same, of the standard deviation of F0
MAX_REFERENCE = 120.0  # seconds of a voice's reference that are attended to; more would take too long
# Among n frames that are normalized together no value exceeds √n, whereas a frame unlike all before it has no bound.
MAX_NORMALIZED = 10.0


@dataclass
class Window:
    """The frames that pass through the model.

    Args:
        start: the first, counted from the start of the stream; a multiple of 4.
        weight: 1 for the frames that count in statistics, else 0, (frames,); a multiple of 4.
        counted: the statistics of as many frames at the start of the window are counted already.
        count: those after them, up to this one, are counted now; the rest, for this window only.
        level: of the source, in nepers.
    """

    start: int
    weight: Tensor
    counted: int
    count: int
    level: float


class RunningMoments:
    """Running mean and mean square of channels, which begin at prior ones; all weights are in frames.

    Example:
        >>> moments = RunningMoments(torch.zeros(1), torch.ones(1), prior=2, memory=100)
        >>> mean, variance = moments.update(torch.tensor([[3.0], [5.0]]), torch.ones(2), count=2)
        >>> mean, variance
        (tensor([2.]), tensor([5.]))
    """

    def __init__(self, mean: Tensor, variance: Tensor, *, prior: float, memory: float) -> None:
        self.prior_mean, self.prior_square, self.prior = mean, variance + mean.square(), prior
        self._full_prior = prior
        self.mean, self.square, self.weight = torch.zeros_like(mean), torch.zeros_like(mean), 0.0
        self.memory = memory

    def update(self, x: Tensor, weight: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
        """Mean and variance with the frames x (frames, channels); the first `count` of them are counted for good."""
        self._add(x[:count], weight[:count])
        rest, weight = x[count:], weight[count:, None]
        total = self.prior + self.weight + float(weight.sum())
        mean = (self.prior * self.prior_mean + self.weight * self.mean + (weight * rest).sum(dim=0)) / total
        square = self.prior * self.prior_square + self.weight * self.square + (weight * rest.square()).sum(dim=0)
        return mean, (square / total - mean.square()).clamp(min=0)

    def reset(self) -> None:
        """Back to the prior moments."""
        self.mean, self.square, self.weight = torch.zeros_like(self.mean), torch.zeros_like(self.mean), 0.0
        self.prior = self._full_prior

    def shift(self, offset: float) -> None:
        """Add an offset to all that was counted."""
        self.square = self.square + 2 * offset * self.mean + offset**2
        self.mean = self.mean + offset

    def _add(self, x: Tensor, weight: Tensor) -> None:
        added = float(weight.sum())
        if not added:
            return
        total = self.weight + added
        weight = weight[:, None]
        self.mean = (self.weight * self.mean + (weight * x).sum(dim=0)) / total
        self.square = (self.weight * self.square + (weight * x.square()).sum(dim=0)) / total
        kept = min(1.0, self.memory / total)
        self.weight, self.prior = total * kept, self.prior * kept


class RunningNorm(nn.Module):
    """`InstanceNorm` by running statistics; a network may apply one in several places, in a fixed order."""

    def __init__(self, stream: RunningModel, priors: list[tuple[Tensor, Tensor, float]]) -> None:
        """`priors` are mean, variance and frames per second of each place."""
        super().__init__()
        self.__dict__["stream"] = stream  # not a submodule
        self.places = [
            RunningMoments(mean, variance, prior=PRIOR * rate, memory=MEMORY * rate) for mean, variance, rate in priors
        ]
        self.place = 0

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        moments = self.places[self.place]
        self.place = (self.place + 1) % len(self.places)
        mean, variance = self.stream.update(moments, x[0])
        return ((x - mean) * torch.rsqrt(variance.clamp(min=1e-5))).clamp(-MAX_NORMALIZED, MAX_NORMALIZED)


class SourceLevel(nn.Module):
    """The source's running level in the place of a window's own."""

    def __init__(self, stream: RunningModel) -> None:
        super().__init__()
        self.__dict__["stream"] = stream

    def forward(self, mel: Tensor, mask: Mask = None) -> Tensor:
        return mel.new_full((1, 1, 1), self.stream.window.level)


class DecodedLevel(nn.Module):
    """The running level of what the decoder gives."""

    def __init__(self, stream: RunningModel, bands: int, prior: Tensor, rate: float) -> None:
        super().__init__()
        self.__dict__["stream"] = stream
        self.bands = bands
        self.energy = RunningMoments(prior, torch.zeros_like(prior), prior=PRIOR * rate, memory=MEMORY * rate)
        self.level = 0.0

    def forward(self, mel: Tensor, mask: Mask = None) -> Tensor:
        energy = torch.exp(2 * mel[0, : self.bands]).sum(dim=0)[:, None]
        mean, _ = self.stream.update(self.energy, energy)
        level = 0.5 * mean.log()
        self.level = float(level)
        return level[None, None]


class Fixed(nn.Module):
    """A result that is computed once."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: Tensor) -> Tensor:
        return self.value


class RunningModel:
    """Converts windows of a stream to one voice. It shares its weights with the model that it is made from."""

    def __init__(self, model: DisentanglingVAE, voice: Voice, mels: Iterable[Tensor]) -> None:
        """
        Args:
            model: a conversion model.
            voice: one voice, (1, …).
            mels: of typical utterances, (1, n_mels, frames) each: their statistics are those that a stream begins with.
        """
        self.config = model.config
        self.voice = replace(voice, reference=_shortened(voice.reference, self.config.mel.frame_rate), learned=None)
        self.window = Window(0, torch.zeros(0), 0, 0, 0.0)
        self.model = _sharing_weights(model).eval()
        self.model.decoder = _sharing_weights(model.decoder_for(voice)).eval()
        priors, f0_std, level, decoded_energy = self._measure(list(mels))
        self.typical_level = level
        rate = self.config.mel.frame_rate
        for parent in list(self.model.modules()):
            for name, module in list(parent.named_children()):
                if isinstance(module, InstanceNorm):
                    setattr(parent, name, RunningNorm(self, priors[module]))
                elif isinstance(module, Level):
                    setattr(parent, name, SourceLevel(self))
        self.model.decoded_level = DecodedLevel(self, self.config.encoder_bands, decoded_energy, rate)
        self.f0_moments = RunningMoments(torch.zeros_like(f0_std), f0_std.square(), prior=0.0, memory=MEMORY * rate / 2)
        self.f0_std = f0_std
        if self.model.decoder.postfilter is not None:
            self._noise = self.model.decoder.postfilter.noise
        for attention in self.model.decoder.cross_attention:
            reference = self.voice.reference
            attention.key = Fixed(attention.key(reference.keys))
            attention.value = Fixed(attention.value(reference.values))

    def _measure(self, mels: list[Tensor]) -> tuple[dict, Tensor, float, Tensor]:
        """Of typical utterances: moments in each place of each norm, F0 std, source level, and decoded energy."""
        calls = defaultdict(list)  # norm → (mean, variance, frames) of each call
        norms = {module for module in self.model.modules() if isinstance(module, InstanceNorm)}
        levels = {"source": [], "decoded": []}

        def record(norm: nn.Module, inputs: tuple, _: Tensor) -> None:
            x = inputs[0][0]
            calls[norm].append((x.mean(dim=0), x.var(dim=0, correction=0), x.shape[0] / frames))

        hooks = [norm.register_forward_hook(record) for norm in norms]
        for name, module in (("source", self.model.level), ("decoded", self.model.decoded_level)):
            hooks.append(module.register_forward_hook(lambda *x, name=name: levels[name].append(x[2].flatten())))
        stds = []
        for mel in mels:
            frames = mel.shape[2]
            stds.append(self.model.f0(mel).statistics().std)
            self.model.convert(mel, self.voice)
        for hook in hooks:
            hook.remove()
        priors = {}
        for norm, values in calls.items():
            places = [values[place :: len(values) // len(mels)] for place in range(len(values) // len(mels))]
            priors[norm] = [
                (
                    torch.stack([mean for mean, _, _ in place]).mean(dim=0),
                    torch.stack([variance for _, variance, _ in place]).mean(dim=0),
                    self.config.mel.frame_rate / round(1 / place[0][2]),
                )
                for place in places
            ]
        level = float(torch.cat(levels["source"]).mean())
        decoded_energy = torch.cat(levels["decoded"]).mul(2).exp().mean()[None]
        return priors, torch.cat(stds).nanmean(dim=0, keepdim=True), level, decoded_energy

    def update(self, moments: RunningMoments, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of running moments with the window's values x (frames, channels), at any of its rates."""
        window = self.window
        stride = round(len(window.weight) / len(x))
        first = window.counted // stride
        return moments.update(x[first:], window.weight[::stride][first:], count=window.count // stride - first)

    def source_f0(self, mel: Tensor) -> tuple[F0Contour, F0Statistics]:
        """The F0 of the window's mel (1, n_mels, frames), and its running statistics."""
        contour = self.model.f0(mel)
        weight = self.window.weight[::2] * (contour.voicing[0] > 0.5)
        first = self.window.counted // 2
        mean, variance = self.f0_moments.update(
            contour.log_f0[0, first:, None], weight[first:], count=self.window.count // 2 - first
        )
        rate = self.config.mel.frame_rate / 2
        seen = self.f0_moments.weight + float(weight[max(first, self.window.count // 2) :].sum())
        prior = F0_STD_PRIOR * rate
        variance = (seen * variance + prior * self.f0_std.square()) / (seen + prior)
        return contour, F0Statistics(mean, variance.sqrt())

    def recount(self, mel: Tensor, window: Window) -> None:
        """Take all statistics anew, from a window (1, n_mels, frames) that holds all that has arrived.

        Statistics of a layer are inaccurate where they were counted while those of earlier layers still were.
        """
        for module in self.model.modules():
            if isinstance(module, RunningNorm):
                for moments in module.places:
                    moments.reset()
        self.model.decoded_level.energy.reset()
        self.f0_moments.reset()
        self.enter(window)
        source_f0, statistics = self.source_f0(mel)
        self.convert(mel, source_f0.transfer(statistics, self.voice.f0_statistics).within_range())

    def enter(self, window: Window) -> None:
        """Go on to the next window; its level may differ from that of the last."""
        # The level is subtracted before the content encoder's first normalization, whose mean then shifts.
        self.model.content.norm.places[0].shift((self.window.level - window.level) / MEL_STD)
        self.window = window
        if self.model.decoder.postfilter is not None:
            index = (window.start + torch.arange(len(window.weight), device=self._noise.device)) % len(self._noise)
            self.model.decoder.postfilter.noise = self._noise[index]

    def convert(self, mel: Tensor, target_f0: F0Contour) -> Tensor:
        """The window's ln-mel (1, n_mels, frames) → converted ln-mel."""
        return self.model.convert(mel, self.voice, target_f0=target_f0)


def _sharing_weights(module: nn.Module) -> nn.Module:
    """A copy whose layers can be replaced, with the same tensors."""
    return copy.deepcopy(module, {id(x): x for x in (*module.parameters(), *module.buffers())})


def _shortened(reference: SpeakerReference, frame_rate: float) -> SpeakerReference:
    frames = round(MAX_REFERENCE * frame_rate / REDUCTION)
    return reference.with_frames(slice(frames))
