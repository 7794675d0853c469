"""The interface between the training loop and what it trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vcvae.training.config import RunConfig

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class ValidationResult:
    """Figures by name, and examples for TensorBoard: log-mels (n_mels, frames) and audio (samples,)."""

    figures: dict[str, float]
    mels: dict[str, Tensor] = field(default_factory=dict)
    audio: dict[str, Tensor] = field(default_factory=dict)


class Task(nn.Module):
    """The networks of a run, their losses on a batch, and their validation.

    Parameters are divided into named groups: one in ordinary training, two in adversarial training (generator and
    discriminator). Each group has its own optimizer and its own total loss; the totals of one forward pass may share
    parts of the graph.
    """

    def __init__(self, config: RunConfig, speakers: int) -> None:
        """Build the networks of `config` for data with `speakers` speakers, numbered from 0."""
        super().__init__()
        self.config = config

    def setup(self, batches: Iterator[Batch]) -> None:
        """Called once before the first step of a run, with a few training batches, the same in every process."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each group, by its name."""
        raise NotImplementedError

    def lr_scale(self, group: str) -> float:
        """The learning rate of a parameter group, in units of the run's."""
        return 1.0

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The total loss of each parameter group (a group without one is not updated), and the loss terms to log."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after each step of the optimizers."""

    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Evaluate on speakers that are not in the training data."""
        raise NotImplementedError

    @property
    def released(self) -> nn.Module:
        """The model that `vcvae export` writes."""
        raise NotImplementedError


class EmaTask(Task):
    """A task that trains `model`, and whose exported model is an exponential moving average of it, `ema`."""

    model: nn.Module
    ema: AveragedModel

    @property
    def released(self) -> nn.Module:
        """The model that `vcvae export` writes: the EMA."""
        return self.ema.module

    def after_step(self) -> None:
        """Update the EMA."""
        self.ema.update_parameters(self.model)
