"""Conversion between two speakers by the joint density of their spectral envelopes, the classic method of the field.

Aligned frames of parallel sentences are points of one space. A Gaussian mixture of these points gives the distribution
of the target's frame y for a source frame x (Stylianou et al. 1998, doi:10.1109/89.661472; Kain & Macon 1998). With the
slopes of both in the space, the most probable trajectory of y is computed and its global variance restored (Toda et al.
2007, doi:10.1109/TASL.2007.907344). The smooth envelope of the mel is converted; the source's fine structure is kept by
adding the difference (Kobayashi et al. 2014), after its F0 has been shifted.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.cepstrum import CEPSTRUM_ORDER, align, cepstrum, from_cepstrum
from vcvae.features.mel import MelConfig
from vcvae.models.classic.gmm import GaussianMixture, GaussianMixtureConfig
from vcvae.models.hub import PretrainedModel

MAX_COVARIANCES = 2**24  # values; in float64 128 MiB
FRAMES_AT_ONCE = 512


class GMMConversionConfig(Config):
    """Sizes of a converter for one pair of speakers."""

    mel: MelConfig = MelConfig()
    cepstra: int = Field(
        CEPSTRUM_ORDER, gt=0, le=64, description="cepstral coefficients that are converted, from the second on"
    )
    components: int = Field(32, gt=0, le=4096, description="Gaussians of the joint density")

    @model_validator(mode="after")
    def _holds_together(self) -> GMMConversionConfig:
        if self.cepstra >= self.mel.n_mels:
            raise ValueError("cepstra must be fewer than the mel's bands")
        values = self.components * (4 * self.cepstra) ** 2
        if values > MAX_COVARIANCES:
            raise ValueError(
                f"components · (4 · cepstra)² are {values:,} values of covariances; at most {MAX_COVARIANCES:,} are "
                "held at once; lower components"
            )
        return self


def slopes(x: Tensor) -> Tensor:
    """Half the difference of each frame's neighbours: (dimensions, frames) → the same."""
    padded = torch.cat([x[:, :1], x, x[:, -1:]], dim=1)
    return (padded[:, 2:] - padded[:, :-2]) / 2


class GMMConversion(PretrainedModel, config=GMMConversionConfig):
    """Converts mels of one speaker to another, fitted to parallel sentences (Toda et al. 2007)."""

    def __init__(self, config: GMMConversionConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or GMMConversionConfig()
        self.joint = GaussianMixture(GaussianMixtureConfig(dimensions=4 * c.cepstra, components=c.components))
        self.register_buffer("target_std", torch.ones(c.cepstra))  # of the target's cepstra within an utterance
        self.register_buffer("octaves", torch.zeros(()))  # from the source's mean log2 F0 to the target's

    @classmethod
    def fit(
        cls,
        pairs: list[tuple[Tensor, Tensor]],
        config: GMMConversionConfig | None = None,
        *,
        octaves: float = 0.0,
        rounds: int = 2,
        seed: int = 0,
    ) -> GMMConversion:
        """Fit to pairs of log-mels (n_mels, frames) of the same sentences by source and target.

        `octaves` is the difference of their mean log2 F0. The first round aligns the source with the target, each later
        round the converted source of the round before, which is closer to the target.

        Raises:
            VcvaeError: no pairs, or fewer aligned frames than the mixture has components.
        """
        config = config or GMMConversionConfig()
        if not pairs:
            raise VcvaeError("no pairs of parallel recordings; give two folders with files of the same names.")
        model = cls(config)
        model.octaves.fill_(octaves)
        sources = [cepstrum(source, config.cepstra)[1:] for source, _ in pairs]
        targets = [cepstrum(target, config.cepstra)[1:] for _, target in pairs]
        model.target_std = torch.stack([target.std(dim=1) for target in targets]).mean(dim=0)
        aligned_sources = sources
        for _ in range(rounds):
            points = []
            for source, converted, target in zip(sources, aligned_sources, targets, strict=True):
                i, j = align(converted.numpy(), target.numpy())
                points.append(torch.cat([source[:, i], slopes(source)[:, i], target[:, j], slopes(target)[:, j]]))
            frames = torch.cat(points, dim=1).T
            model.joint = GaussianMixture.fit(frames, components=config.components, seed=seed)
            aligned_sources = [model.trajectory(source) for source in sources]
        return model

    def convert(self, mel: Tensor) -> Tensor:
        """A source's log-mel (n_mels, frames), with its F0 shifted to the target's → the converted log-mel, like it."""
        source = cepstrum(mel, self.config.cepstra)[1:]
        trajectory = self.trajectory(source)
        # The global variance of expected values is too low (Toda et al. 2007, section V; scaled as Silén et al. 2012).
        mean = trajectory.mean(dim=1, keepdim=True)
        scale = (self.target_std / trajectory.std(dim=1).clamp(min=1e-3)).clamp(1.0, 2.0)
        converted = mean + (trajectory - mean) * scale[:, None]
        difference = torch.cat([torch.zeros_like(converted[:1]), converted - source])
        return mel + from_cepstrum(difference, len(mel))

    def trajectory(self, source: Tensor) -> Tensor:
        """The most probable cepstra of the target for those of the source, (cepstra, frames) both.

        The most probable component of each frame gives the mean and the variance of the target's value and slope (Toda
        et al. 2007, eq. 39); the trajectory y solves W' D⁻¹ W y = W' D⁻¹ E over all frames.

        Raises:
            VcvaeError: a covariance of the mixture is singular.
        """
        try:
            return self._trajectory(source)
        except (np.linalg.LinAlgError, torch.linalg.LinAlgError, ValueError):  # scipy refuses NaN by the last
            raise VcvaeError("--model: a covariance of its Gaussian mixture is singular; fit it again.") from None

    def _trajectory(self, source: Tensor) -> Tensor:
        x = torch.cat([source, slopes(source)]).T.double()  # (frames, 2 · cepstra)
        half = x.shape[1]
        joint, factors = self.joint, self.joint.factors.double()
        covariance = factors @ factors.mT
        xx, yx, yy = covariance[:, :half, :half], covariance[:, half:, :half], covariance[:, half:, half:]
        marginal = GaussianMixture(GaussianMixtureConfig(dimensions=half, components=joint.config.components)).double()
        marginal.weights, marginal.means = joint.weights.double(), joint.means[:, :half].double()
        marginal.factors = torch.linalg.cholesky(xx)
        component = torch.cat([part.argmax(dim=1) for part in marginal.joint_parts(x)])
        slope = torch.linalg.solve(xx, yx.mT).mT  # (components, half, half): Σyx Σxx⁻¹
        means = joint.means.double()
        expected = torch.cat(
            [
                means[here, half:] + (slope[here] @ (part - means[here, :half])[:, :, None])[..., 0]
                for part, here in zip(x.split(FRAMES_AT_ONCE), component.split(FRAMES_AT_ONCE), strict=True)
            ]
        )
        variance = (yy - slope @ yx.mT).diagonal(dim1=1, dim2=2)[component].clamp(min=1e-6)
        cepstra = half // 2
        trajectories = [
            _most_probable_trajectory(
                expected[:, d], expected[:, cepstra + d], variance[:, d], variance[:, cepstra + d]
            )
            for d in range(cepstra)
        ]
        return torch.stack(trajectories).to(source)


def _most_probable_trajectory(value: Tensor, slope: Tensor, value_variance: Tensor, slope_variance: Tensor) -> Tensor:
    """The y (frames,) that minimises Σ (y − value)² / its variance + Σ (slope of y − slope)² / its variance."""
    import scipy.linalg  # a quarter of a second, which other models need not wait for

    frames = len(value)
    p = (1 / value_variance).numpy()
    q = (1 / slope_variance).numpy()
    e = value.numpy()
    f = slope.numpy()
    # The slope at t is (y[t + 1] − y[t − 1]) / 2, with the ends repeated: each row of W has two entries.
    t = np.arange(frames)
    ahead, behind = np.minimum(t + 1, frames - 1), np.maximum(t - 1, 0)
    bands, right = np.zeros((3, frames)), p * e
    bands[2] = p
    np.add.at(bands[2], ahead, q / 4)
    np.add.at(bands[2], behind, q / 4)
    # Off the diagonal −q / 4 joins `behind` and `ahead`; upper form: bands[2 − k, j] holds the entry (j − k, j).
    np.add.at(bands, (2 - (ahead - behind), ahead), -q / 4 * np.where(ahead == behind, 2, 1))
    np.add.at(right, ahead, q * f / 2)
    np.add.at(right, behind, -q * f / 2)
    return torch.from_numpy(scipy.linalg.solveh_banded(bands, right))
