"""A Gaussian mixture, m ~ P(m), x | m ~ N(μ_m, Σ_m). A VAE is such a mixture with a continuous m."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.models.hub import PretrainedModel

VALUES_AT_ONCE = 2**23  # rows · components · dimensions


class GaussianMixtureConfig(Config):
    """Sizes of a mixture."""

    dimensions: int = Field(80, gt=0, le=2048, description="of x")
    components: int = Field(32, gt=0, le=4096, description="Gaussians")
    covariance: Literal["full", "diagonal"] = Field("full", description="of a component: full or diagonal")


class GaussianMixture(PretrainedModel, config=GaussianMixtureConfig):
    """A mixture of normal densities of vectors x (any, dimensions), fitted by expectation-maximization.

    Dempster, Laird & Rubin 1977 (doi:10.1111/j.2517-6161.1977.tb01600.x).

    Example:
        >>> import torch
        >>> torch.manual_seed(0) and None
        >>> frames = torch.cat([torch.randn(500, 2) - 3, torch.randn(500, 2) + 3])
        >>> mixture = GaussianMixture.fit(frames, components=2)
        >>> mixture.log_probability(frames).shape, mixture.sample(7).shape
        (torch.Size([1000]), torch.Size([7, 2]))
    """

    def __init__(self, config: GaussianMixtureConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or GaussianMixtureConfig()
        self.register_buffer("weights", torch.full((c.components,), 1 / c.components))
        self.register_buffer("means", torch.zeros(c.components, c.dimensions))
        # Σ = L Lᵀ; for a diagonal Σ only the diagonal of L is stored.
        eye = torch.eye(c.dimensions) if c.covariance == "full" else torch.ones(c.dimensions)
        self.register_buffer("factors", eye.repeat(c.components, *[1] * eye.ndim))

    @classmethod
    def fit(
        cls,
        frames: Tensor,
        *,
        components: int,
        covariance: Literal["full", "diagonal"] = "full",
        floor: float = 1e-3,
        iterations: int = 100,
        seed: int = 0,
    ) -> GaussianMixture:
        """The mixture fitted to frames (count, dimensions) by scikit-learn, initialized by k-means.

        `floor` is added to every variance, in the squared unit of the frames.

        Raises:
            VcvaeError: fewer frames than components, a wrong shape, or values that are not finite.
        """
        from sklearn.mixture import GaussianMixture as SklearnMixture

        if frames.ndim != 2:
            raise VcvaeError(f"frames must be (count, dimensions), not {tuple(frames.shape)}.")
        if len(frames) < max(2, components):
            raise VcvaeError(
                f"{len(frames)} frames are too few for {components} components; give more frames or lower 'components'."
            )
        if not frames.isfinite().all():
            raise VcvaeError("the frames hold values that are not finite; check how they were computed.")
        kind = {"full": "full", "diagonal": "diag"}[covariance]
        fitted = SklearnMixture(
            components, covariance_type=kind, reg_covar=floor, max_iter=iterations, random_state=seed
        )
        fitted.fit(frames.double().numpy())
        mixture = cls(GaussianMixtureConfig(dimensions=frames.shape[1], components=components, covariance=covariance))
        covariances = torch.from_numpy(fitted.covariances_)
        mixture.weights = torch.from_numpy(fitted.weights_).float()
        mixture.means = torch.from_numpy(fitted.means_).float()
        mixture.factors = (torch.linalg.cholesky(covariances) if covariance == "full" else covariances.sqrt()).float()
        return mixture

    def joint(self, x: Tensor) -> Tensor:
        """ln P(m) p(x | m) of x (count, dimensions), for each component: (count, components), in nats."""
        centred = x[:, None] - self.means  # (count, components, dimensions)
        if self.config.covariance == "full":
            white = torch.linalg.solve_triangular(self.factors, centred.permute(1, 2, 0), upper=False).permute(2, 0, 1)
            log_volume = self.factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        else:
            white, log_volume = centred / self.factors, self.factors.log().sum(dim=1)
        log_density = -0.5 * (white.square().sum(dim=2) + x.shape[1] * math.log(2 * math.pi)) - log_volume
        return self.weights.log() + log_density

    def joint_parts(self, x: Tensor) -> Iterator[Tensor]:
        """`joint` of x (count, dimensions) in parts of some rows, so that memory stays bounded."""
        return map(self.joint, x.split(max(1, VALUES_AT_ONCE // self.means.numel())))

    def log_probability(self, x: Tensor) -> Tensor:
        """ln p(x) of x (count, dimensions): (count,), in nats."""
        return torch.cat([part.logsumexp(dim=1) for part in self.joint_parts(x)])

    def responsibilities(self, x: Tensor) -> Tensor:
        """P(m | x) of x (count, dimensions): (count, components)."""
        return torch.cat([part.softmax(dim=1) for part in self.joint_parts(x)])

    def sample(self, count: int) -> Tensor:
        """m ~ P(m), then x ~ N(μ_m, Σ_m): (count, dimensions)."""
        component = torch.multinomial(self.weights, count, replacement=True)
        noise = torch.randn(count, self.means.shape[1]).to(self.means)
        factors = self.factors[component]
        deviation = (factors @ noise[:, :, None])[..., 0] if self.config.covariance == "full" else factors * noise
        return self.means[component] + deviation
