"""The configuration that all training tasks share: data, length, optimizer, logging and checkpoints."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from vcvae.config import Config

# YAML reads a bare `no` as false.
Precision = Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(lambda value: "no" if value is False else value)]
Speeds = Annotated[tuple[Annotated[float, Field(ge=0.5, le=2)], ...], Field(min_length=1, max_length=16)]
Decay = Annotated[float, Field(ge=0, lt=1)]
MAX_STEPS = 100_000_000
MAX_BATCH_FRAMES = 2**21  # mel frames of a batch: 6.8 h, 2 GB of samples
# Marks the fields that may differ when a run is resumed.
MAY_CHANGE = {"may_change": True}


class DataConfig(Config):
    """Prepared folders (`vcvae prepare`), or shards in a folder or at a URL. The two must share no speaker."""

    train: str = Field(description="folder of the training speakers")
    dev: str = Field(description="folder of other speakers, used for validation only")


class OptimizerConfig(Config):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with linear warm-up, then cosine decay."""

    learning_rate: float = Field(8e-4, gt=0, le=10, description="peak learning rate, reached at the end of the warm-up")
    final_share: float = Field(0.05, ge=0, le=1, description="learning rate at the last step, as a share of the peak")
    warmup: int = Field(500, ge=0, le=MAX_STEPS, description="steps of linear warm-up")
    betas: tuple[Decay, Decay] = Field((0.9, 0.99), description="decay of the two moments of the gradient")
    weight_decay: float = Field(0.01, ge=0, le=100, description="decoupled weight decay, per unit of learning rate")
    clip: float = Field(1.0, gt=0, le=1e9, description="largest norm of the gradient; a longer one is scaled down")

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate at `step` of a run of `steps` steps."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        share = self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * share


class RunConfig(Config):
    """The keys that all tasks share. Fields marked `may_change` may differ when a run is resumed."""

    # Whether the task's batches include parallel speech, where the manifest lists parallel groups.
    uses_parallel: ClassVar[bool] = False

    task: str = Field(description="name of the training task")
    output: str = Field(description="folder of the run; the same command resumes it", json_schema_extra=MAY_CHANGE)
    data: DataConfig = Field(json_schema_extra=MAY_CHANGE)
    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of initial weights, data order and noise")
    steps: int = Field(20000, gt=0, le=MAX_STEPS, description="optimizer steps", json_schema_extra=MAY_CHANGE)
    batch_speakers: int = Field(
        8, gt=1, le=4096, description="speakers per batch and process", json_schema_extra=MAY_CHANGE
    )
    segments: int = Field(2, gt=1, le=64, description="segments per speaker in a batch")
    segment_frames: int = Field(128, gt=15, le=8192, description="mel frames per segment; 128 are 1.5 s")
    speeds: Speeds = Field((1.0,), description="playback speeds; a speaker at each speed counts as another speaker")
    accumulate: int = Field(
        1, gt=0, le=1024, description="batches whose gradients are averaged for one step", json_schema_extra=MAY_CHANGE
    )
    precision: Precision = Field("no", description="mixed precision: no, bf16 (recent GPUs) or fp16")
    workers: int = Field(1, ge=0, le=64, description="processes that read audio", json_schema_extra=MAY_CHANGE)
    optimizer: OptimizerConfig = Field(OptimizerConfig(), json_schema_extra=MAY_CHANGE)
    log_every: int = Field(50, gt=0, le=MAX_STEPS, description="steps between log lines", json_schema_extra=MAY_CHANGE)
    validate_every: int = Field(
        1000, gt=0, le=MAX_STEPS, description="steps between validations", json_schema_extra=MAY_CHANGE
    )
    validation_speakers: int = Field(
        64,
        gt=1,
        le=4096,
        description="speakers in a validation; beyond the number in data.dev, speakers repeat with other segments",
        json_schema_extra=MAY_CHANGE,
    )
    keep_best: int = Field(
        1,
        ge=0,
        le=1000,
        description="checkpoints kept beside the last: the best by best_by",
        json_schema_extra=MAY_CHANGE,
    )
    best_by: str = Field(
        description="validation figure by which checkpoints are compared", json_schema_extra=MAY_CHANGE
    )
    checkpoint_every: int = Field(
        250,
        gt=0,
        le=MAX_STEPS,
        description="steps between checkpoints; a killed run loses at most these",
        json_schema_extra=MAY_CHANGE,
    )

    @model_validator(mode="after")
    def _fits_into_memory(self) -> RunConfig:
        for name in ("batch_speakers", "validation_speakers"):
            frames = getattr(self, name) * self.segments * self.segment_frames
            if frames > MAX_BATCH_FRAMES:
                raise ValueError(
                    f"{name} · segments · segment_frames are {frames:,} mel frames, and at most {MAX_BATCH_FRAMES:,} "
                    f"are held at once; lower {name}"
                )
        return self
