"""The prior of voices: where speakers lie among speaker embeddings and F0 statistics, and new ones drawn from there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from vcvae.errors import VcvaeError, replacing
from vcvae.features.f0 import MAX_F0, MIN_F0, F0Statistics
from vcvae.models.classic.gmm import GaussianMixture, GaussianMixtureConfig
from vcvae.models.hub import check_weights, fetch
from vcvae.models.tensor_files import read_tensors, refusing
from vcvae.pretrained import CONVERSION

PRIOR_FORMAT = "vcvae voice prior 1"  # in the file's metadata
PRIOR_FILE = "voices.safetensors"  # beside the weights of the conversion model
AXES = 24  # principal axes of the embeddings that the mixture models together with the F0 statistics
COMPONENTS = 2  # Gaussians of the mixture: women and men, as it turns out
FLOOR = 0.15  # added to the variances, which are 1: so much of a speaker is chance
MIXTURE = "mixture."  # stands before the names of its tensors
MAX_PRIOR_VALUES = 2**24  # of a file's tensors
MAX_SIMILARITY = 0.7  # cosine to a training speaker from which a voice is somebody's


@dataclass(frozen=True)
class DrawnSpeakers:
    """Centred speaker embeddings (count, speaker_latent), of unit length, and the F0 statistics, (count,)."""

    embeddings: Tensor
    f0_statistics: F0Statistics

    def __getitem__(self, index: Tensor | slice) -> DrawnSpeakers:
        """Some of them."""
        return DrawnSpeakers(self.embeddings[index], self.f0_statistics[index])


@dataclass(frozen=True, eq=False)
class VoicePrior:
    """A density of centred speaker embeddings on the unit sphere, and of the mean and spread of log2 F0.

    The leading principal axes of the embeddings and the F0 statistics, all of unit variance, follow a Gaussian mixture;
    each other axis is a Gaussian of its own. Every axis keeps the spread of real speakers, so that drawn voices do not
    gather around the mean.

    Args:
        mixture: of leading axes and F0 statistics, (axes + 2) dimensions.
        mean: of the embeddings, (speaker_latent,).
        axes: principal axes as rows, the widest first, (speaker_latent, speaker_latent).
        scale: standard deviation along each axis, (speaker_latent,).
        f0_mean: of mean log2 F0 and of the logarithm of its standard deviation, (2,).
        f0_scale: standard deviations of both, (2,).
        speakers: centred embeddings of the training speakers, (speakers, speaker_latent).
        fingerprint: of the model.
    """

    mixture: GaussianMixture
    mean: Tensor
    axes: Tensor
    scale: Tensor
    f0_mean: Tensor
    f0_scale: Tensor
    speakers: Tensor
    fingerprint: str

    @classmethod
    def fit(cls, embeddings: Tensor, f0_statistics: F0Statistics, fingerprint: str) -> VoicePrior:
        """The prior of speakers: centred embeddings (speakers, speaker_latent), and F0 statistics (speakers,).

        Raises:
            VcvaeError: fewer than four speakers, or one without F0 statistics.
        """
        if len(embeddings) < 4 or not (f0_statistics.mean.isfinite() & (f0_statistics.std > 0)).all():
            raise VcvaeError(f"{len(embeddings)} speakers; a prior needs four or more, each with some voiced speech.")
        mean = embeddings.mean(dim=0)
        _, values, axes = torch.linalg.svd(embeddings - mean, full_matrices=True)
        scale = torch.zeros_like(mean)
        scale[: len(values)] = values / math.sqrt(len(embeddings) - 1)
        scale = scale.clamp(min=1e-6)
        f0 = torch.stack([f0_statistics.mean, f0_statistics.std.log()], dim=1)
        f0_mean, f0_scale = f0.mean(dim=0), f0.std(dim=0).clamp(min=1e-6)
        count = min(AXES, len(values), len(mean))
        coordinates = ((embeddings - mean) @ axes.mT / scale)[:, :count]
        points = torch.cat([coordinates, (f0 - f0_mean) / f0_scale], dim=1)
        mixture = GaussianMixture.fit(points, components=COMPONENTS, floor=FLOOR)
        return cls(mixture, mean, axes, scale, f0_mean, f0_scale, embeddings, fingerprint)

    def sample(self, count: int, *, seed: int = 0) -> DrawnSpeakers:
        """Speakers where the prior is dense: the denser half of twice as many samples.

        Those that are too near to a training speaker are left out, so there may be fewer than `count`.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            points = self.mixture.sample(2 * count)
            others = torch.randn(2 * count, len(self.mean))
        density = self.mixture.log_probability(points)
        dense = (density >= density.median()).nonzero()[:count, 0]
        points, others = points[dense], others[dense]
        modelled = points.shape[1] - 2
        coordinates = torch.cat([points[:, :modelled], others[:, modelled:]], dim=1)
        embeddings = F.normalize(self.mean + (coordinates * self.scale) @ self.axes, dim=1)
        f0 = points[:, modelled:] * self.f0_scale + self.f0_mean
        mean = f0[:, 0].clamp(math.log2(MIN_F0), math.log2(MAX_F0))
        drawn = DrawnSpeakers(embeddings, F0Statistics(mean, f0[:, 1].exp()))
        return drawn[self.nearest(embeddings) < MAX_SIMILARITY]

    def nearest(self, embeddings: Tensor) -> Tensor:
        """The cosine of each centred embedding (count, speaker_latent) with the nearest training speaker, (count,)."""
        return (embeddings @ self.speakers.mT).amax(dim=1)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: in float16, the training speakers' embeddings in int8.

        Raises:
            VcvaeError: it cannot be written.
        """
        tensors = {"mean": self.mean, "axes": self.axes, "scale": self.scale}
        tensors |= {"f0_mean": self.f0_mean, "f0_scale": self.f0_scale}
        tensors |= {MIXTURE + name: value for name, value in self.mixture.state_dict().items()}
        stored = {name: value.half().contiguous() for name, value in tensors.items()}
        largest = self.speakers.abs().amax(dim=1, keepdim=True)
        stored["speakers"] = (self.speakers / largest * 127).round().to(torch.int8)
        with replacing(path) as file:
            file.write(save(stored, {"format": PRIOR_FORMAT, "fingerprint": self.fingerprint}))

    @classmethod
    def load(cls, path: str | Path) -> VoicePrior:
        """The prior in a file that `save` wrote.

        Raises:
            VcvaeError: it is no such file.
        """
        with refusing(path, of="a prior of voices", advice="make it with recipes/release/voice_prior.py"):
            tensors, metadata = read_tensors(path, max_values=MAX_PRIOR_VALUES)
            if metadata.get("format") != PRIOR_FORMAT:
                raise ValueError(f"its format is not '{PRIOR_FORMAT}'")
            if any(tensor.is_complex() for tensor in tensors.values()):
                raise ValueError("it holds complex numbers")
            weights = {name: tensor.float() for name, tensor in tensors.items()}
            config = _check(weights, Path(path))
            mixture = GaussianMixture(config)
            mixture.load_state_dict({name: weights[MIXTURE + name] for name in mixture.state_dict()})
            parts = {name: weights[name] for name in ("mean", "axes", "scale", "f0_mean", "f0_scale")}
            speakers = F.normalize(weights["speakers"], dim=1)
            return cls(mixture, **parts, speakers=speakers, fingerprint=metadata["fingerprint"])

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> VoicePrior:
        """The prior beside the weights of a model: a folder or a Hugging Face repository; by default, the released one.

        Raises:
            VcvaeError: there is none.
        """
        give = "a model with one, or make it with recipes/release/voice_prior.py"
        return cls.load(fetch(model or CONVERSION, PRIOR_FILE, give=give))


def _check(weights: dict[str, Tensor], path: Path) -> GaussianMixtureConfig:
    """The sizes of the mixture in a file of these tensors. Raises an error where they are no prior's."""
    means, dimensions, speakers = weights[f"{MIXTURE}means"], weights["mean"].numel(), len(weights["speakers"])
    config = GaussianMixtureConfig(dimensions=means.shape[1], components=len(means))
    with torch.device("meta"):
        expected = {MIXTURE + name: value for name, value in GaussianMixture(config).state_dict().items()}
        expected |= {"axes": torch.empty(dimensions, dimensions), "speakers": torch.empty(speakers, dimensions)}
        expected |= {name: torch.empty(dimensions) for name in ("mean", "scale")}
        expected |= {name: torch.empty(2) for name in ("f0_mean", "f0_scale")}
    check_weights(weights, expected, path=path, config="its means", advice="fetch the model again")
    diagonal = weights[f"{MIXTURE}factors"].diagonal(dim1=1, dim2=2)
    positive = (weights[f"{MIXTURE}weights"], diagonal, weights["scale"], weights["f0_scale"])
    if config.dimensions > dimensions + 2 or not all((values > 0).all() for values in positive):
        raise ValueError("its numbers are those of no density")
    return config
