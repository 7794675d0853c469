"""What the loop asks of whatever is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from vcvae.training.config import RunConfig

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class ValidationResult:
    """What a validation found: figures, log-mels (n_mels, frames) to look at and samples (samples,) to listen to."""

    figures: dict[str, float]
    mels: dict[str, Tensor] = field(default_factory=dict)
    sounds: dict[str, Tensor] = field(default_factory=dict)


class Task(nn.Module):
    """The modules of a run, what a batch costs each of them, and how they are judged.

    Parameters belong to *parameter_groups*: one in ordinary training, two in adversarial training (generator and
    discriminator). Each player has an optimizer of its own and descends its own total; the totals of one forward pass
    may share parts of the graph.
    """

    def __init__(self, config: RunConfig, speakers: int) -> None:
        """What `config` describes, for data with so many `speakers`, who are numbered from 0."""
        super().__init__()
        self.config = config

    def begin(self, batches: Iterator[Batch]) -> None:
        """Called before the first step of a run, with some of what is to be learned from, the same in every process."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each player."""
        raise NotImplementedError

    def lr_scale(self, player: str) -> float:
        """The player's learning rate, in units of the run's."""
        return 1.0

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What each player descends in this step (one that is missing rests), and the terms to log."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after each step of the optimizers."""

    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Judge on unseen speakers."""
        raise NotImplementedError

    @property
    def released(self) -> nn.Module:
        """The model that an export keeps."""
        raise NotImplementedError
