"""Training the line of models that the converter grew from: the plain auto-encoder, the denoising one, the VAE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vcvae.augment.waveform import CorruptionConfig, amplify, corrupt, mask
from vcvae.features.mel import MelSpectrogram, valid_band_mask
from vcvae.models.classic.autoencoder import VAE, AutoEncoder, AutoEncoderConfig, DenoisingAutoEncoder
from vcvae.training import losses
from vcvae.training.config import RunConfig
from vcvae.training.ema import ema
from vcvae.training.task import Batch, Task, ValidationResult


class AutoEncoderRun(RunConfig):
    """A run that trains an auto-encoder."""

    task: Literal["autoencoder"] = Field("autoencoder", description="what is trained: autoencoder")
    model: AutoEncoderConfig = AutoEncoderConfig()
    gain: tuple[float, float] = Field((-12.0, 6.0), description="dB; range of the random gain of a segment")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights, which are what is released")
    best_by: Literal["lowest reconstruction_l1"] = Field(
        "lowest reconstruction_l1", description="the figure of a validation that says which"
    )


class DenoisingRun(AutoEncoderRun):
    """A run that trains a denoising auto-encoder."""

    task: Literal["denoising"] = Field("denoising", description="what is trained: denoising")
    model: AutoEncoderConfig = AutoEncoderConfig(latent=128)
    corruption: CorruptionConfig = CorruptionConfig()


class VAERun(AutoEncoderRun):
    """A run that trains a VAE."""

    task: Literal["vae"] = Field("vae", description="what is trained: vae")
    beta: float = Field(1.0, ge=0, description="weight of the KL; at 1 the total is minus the bound")
    kl_warmup: int = Field(2000, ge=0, description="steps over which that weight rises from 0")
    free_bits: float = Field(0.0, ge=0, description="nats a value of the code that cost nothing")


class AutoEncoderTask(Task):
    """The model, its running average, and minus the log-likelihood of a copy."""

    kind: type[AutoEncoder] = AutoEncoder

    def __init__(self, config: AutoEncoderRun, speakers: int) -> None:
        super().__init__(config, speakers)
        self.spectrogram = MelSpectrogram(config.model.mel)
        self.model = self.kind(config.model)
        self.ema = ema(self.model, config.ema_decay)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.model.parameters())}

    def begin(self, batches: Iterator[Batch]) -> None:
        self.model.begin(torch.cat([self.spectrogram(batch["samples"].flatten(0, 1)) for batch in batches]))

    @property
    def released(self) -> AutoEncoder:
        """What an export keeps: the averaged model."""
        return self.ema.module

    def after_step(self) -> None:
        self.ema.update_parameters(self.model)

    def hear(self, samples: Tensor) -> Tensor:
        """What the encoder is given, of clean samples (batch, samples)."""
        return self.spectrogram(samples)

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        samples = amplify(batch["samples"].flatten(0, 1), self.config.gain)
        mel, known = self.spectrogram(samples), valid_band_mask(batch["bandwidth"].flatten(), self.config.model.mel)
        posterior = self.model.encode(self.hear(samples))
        likelihood = self.model.decode(posterior.sample(), mel.shape)
        # Nats per frame: over the bands that are known, as if all were.
        nll = -(likelihood.log_probability(mel).mean(dim=2) * known).sum() / known.sum() * mel.shape[1]
        terms = {"nll": nll, "reconstruction": losses.reconstruction(likelihood.mean, mel, known)}
        total = nll
        if kl := self.cost(posterior, mel.shape[2]):
            terms["kl"] = kl[0]
            total = total + kl[1] * min(1.0, step / max(1, self.config.kl_warmup))
        return {"model": total}, {name: term.detach() for name, term in terms.items()}

    def cost(self, posterior, frames: int) -> tuple[Tensor, Tensor] | None:
        """What a code costs, nats per frame: as it is, and as it is weighed. A point costs nothing."""
        return None

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Copies of unseen speakers: L1 to the clean mel, of the copy and of what was heard."""
        found = {"heard": [], "reconstruction_l1": []}
        for batch in batches:
            samples = batch["samples"].flatten(0, 1)
            mel, known = self.spectrogram(samples), valid_band_mask(batch["bandwidth"].flatten(), self.config.model.mel)
            heard = self.hear(samples)
            copy = self.released.copy(heard)
            found["heard"].append(losses.reconstruction(heard, mel, known))
            found["reconstruction_l1"].append(losses.reconstruction(copy, mel, known))
        figures = {name: torch.stack(values).mean().item() for name, values in found.items()}
        return ValidationResult(figures, {"clean": mel[0], "heard": heard[0], "copy": copy[0]})


class DenoisingTask(AutoEncoderTask):
    """The same, of clean speech from corrupted speech."""

    kind = DenoisingAutoEncoder

    def hear(self, samples: Tensor) -> Tensor:
        c = self.config
        return mask(self.spectrogram(corrupt(samples, c.corruption, sample_rate=c.model.mel.sample_rate)), c.corruption)


class VAETask(AutoEncoderTask):
    """The same, and the code costs what it tells: minus the lower bound."""

    kind = VAE

    def cost(self, posterior, frames: int) -> tuple[Tensor, Tensor]:
        kl = posterior.kl().sum(dim=2).mean(dim=0) / frames  # of each value of the code, per frame of the mel
        # Kingma et al. 2016 (arXiv:1606.04934, eq. 15): below its allowance a value is not pressed further.
        allowance = self.config.free_bits * posterior.mean.shape[2] / frames
        return kl.sum(), self.config.beta * kl.clamp(min=allowance).sum()
