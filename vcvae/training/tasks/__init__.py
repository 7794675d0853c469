"""What can be trained, by the name that a configuration's `task` gives."""

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
from vcvae.training.tasks.gmm import ParallelConfig
from vcvae.training.tasks.postfilter import PostfilterConfig, PostfilterTask
from vcvae.training.tasks.vocoder import VocoderConfig, VocoderTask

TASKS = {
    "conversion": (ConversionConfig, ConversionTask),
    "postfilter": (PostfilterConfig, PostfilterTask),
    "vocoder": (VocoderConfig, VocoderTask),
    "autoencoder": (AutoEncoderRun, AutoEncoderTask),
    "denoising": (DenoisingRun, DenoisingTask),
    "vae": (VAERun, VAETask),
}
CONFIGS = {name: config for name, (config, _) in TASKS.items()} | {"gmm_conversion": ParallelConfig}


def parse(values: dict[str, Any], *, where: str) -> RunConfig | ParallelConfig:
    """The configuration that nested `values` describe; their `task` says of which kind.

    Raises:
        VcvaeError: an unknown task, an unknown key, a wrong value.
    """
    name = values.get("task")
    if not isinstance(name, str) or name not in CONFIGS:
        raise VcvaeError(f"{where}: the key 'task' must be one of: {', '.join(CONFIGS)} (it is {name!r}).")
    return CONFIGS[name].parse(values, where=where)
