"""What every training run has, whatever it trains: data, length, optimizer, and where it is kept."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from vcvae.config import Config

# YAML reads a bare `no` as false.
Precision = Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(lambda value: "no" if value is False else value)]
Speed = Annotated[float, Field(ge=0.5, le=2)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class DataConfig(Config):
    """Prepared folders (`vcvae prepare`), or shards in a folder or at a URL. No speaker of one must be in the other."""

    train: str = Field(description="folder of the speakers to learn from")
    dev: str = Field(description="folder of unseen speakers, for validation only")

    @property
    def to_learn_from(self) -> dict[str, str | None]:
        """What else to ask of the speakers to learn from, by the names of `vcvae.data.load`'s options."""
        return {}


class ParallelDataConfig(DataConfig):
    """… among them some who say the same at the same time."""

    parallel: str | None = Field(
        None, description="how names of speakers begin who say the same at the same time in recordings of one name"
    )

    @property
    def to_learn_from(self) -> dict[str, str | None]:
        return {"parallel": self.parallel}


class OptimizerConfig(Config):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), linear warm-up, then a cosine down to a share of the rate."""

    learning_rate: float = Field(8e-4, gt=0, description="at the end of the warm-up")
    final: float = Field(0.05, ge=0, le=1, description="share of the rate that is left at the last step")
    warmup: int = Field(500, ge=0, description="steps")
    betas: tuple[Decay, Decay] = Field((0.9, 0.99), description="decay of the gradient's two moments")
    weight_decay: float = Field(0.01, ge=0, description="share of each weight that a unit of rate takes away")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at a step of a run of `steps`."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        share = self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * share


class RunConfig(Config):
    """The keys that all tasks share."""

    task: str = Field(description="what is trained")
    output: str = Field(description="folder of the run; the same command again goes on from what it holds")
    data: DataConfig
    seed: int = Field(0, ge=0, description="of weights, data and noise")
    steps: int = Field(20000, gt=0, description="optimizer steps")
    batch_speakers: int = Field(8, gt=1, description="speakers in a batch of one process")
    segments: int = Field(2, gt=1, description="of each of these")
    segment_frames: int = Field(128, gt=15, description="mel frames of a segment: 1.5 s")
    speeds: tuple[Speed, ...] = Field((1.0,), description="each speaker at each of these speeds is a speaker")
    accumulate: int = Field(1, gt=0, description="batches whose gradients make one step")
    precision: Precision = Field("no", description="mixed precision: no, bf16 (for recent GPUs) or fp16")
    workers: int = Field(1, ge=0, description="processes that read audio")
    optimizer: OptimizerConfig = OptimizerConfig()
    log_every: int = Field(50, gt=0, description="steps between scalars")
    validate_every: int = Field(1000, gt=0, description="steps between validations")
    validation_speakers: int = Field(
        64, gt=1, description="speakers in a validation; one that comes again has other segments"
    )
    keep_best: int = Field(1, ge=0, description="checkpoints kept beside the last, those that validated best")
    best_by: str = Field(description="the figure of a validation that says which")
    checkpoint_every: int = Field(250, gt=0, description="steps between checkpoints: what a killed run can lose")
