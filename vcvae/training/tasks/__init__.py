"""The training tasks, by the name in a configuration's key `task`."""

from __future__ import annotations

from typing import Any

from vcvae.errors import VcvaeError
from vcvae.training.config import RunConfig
from vcvae.training.tasks.autoencoders import (
    AutoEncoderRun,
    AutoEncoderTask,
    DenoisingRun,
    DenoisingTask,
    VAERun,
    VAETask,
)
from vcvae.training.tasks.conversion import ConversionConfig, ConversionTask
from vcvae.training.tasks.conversion_losses import ConversionLossesConfig, ConversionLossesTask
from vcvae.training.tasks.postfilter import PostfilterConfig, PostfilterTask
from vcvae.training.tasks.vocoder import VocoderConfig, VocoderTask

TASKS = {
    "conversion": (ConversionConfig, ConversionTask),
    "postfilter": (PostfilterConfig, PostfilterTask),
    "conversion_losses": (ConversionLossesConfig, ConversionLossesTask),
    "vocoder": (VocoderConfig, VocoderTask),
    "autoencoder": (AutoEncoderRun, AutoEncoderTask),
    "denoising": (DenoisingRun, DenoisingTask),
    "vae": (VAERun, VAETask),
}


def parse(values: dict[str, Any], *, context: str) -> RunConfig:
    """The configuration with the nested `values`, of the class that belongs to their `task`.

    Raises:
        VcvaeError: an unknown task, an unknown key, a wrong value.
    """
    name = values.get("task")
    if not isinstance(name, str) or name not in TASKS:
        raise VcvaeError(f"{context}: the key 'task' must be one of: {', '.join(TASKS)} (it is {name!r}).")
    return TASKS[name][0].parse(values, context=context)
