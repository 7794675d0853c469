"""Training the classic models: auto-encoder, denoising auto-encoder, and VAE of log-mels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vcvae.augment.waveform import CorruptionConfig, amplify, corrupt, mask
from vcvae.config import DecibelRange
from vcvae.features.mel import MelSpectrogram, valid_band_mask
from vcvae.models.classic.autoencoder import VAE, AutoEncoder, AutoEncoderConfig, DenoisingAutoEncoder
from vcvae.training import losses
from vcvae.training.config import MAX_STEPS, RunConfig
from vcvae.training.ema import ema
from vcvae.training.task import Batch, EmaTask, ValidationResult


class AutoEncoderRun(RunConfig):
    """A run that trains an auto-encoder."""

    task: Literal["autoencoder"] = Field("autoencoder", description="name of the training task: autoencoder")
    model: AutoEncoderConfig = AutoEncoderConfig()
    gain: DecibelRange = Field((-12.0, 6.0), description="dB; range of each segment's random gain")
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the EMA of the weights, which is what is exported"
    )
    best_by: Literal["lowest reconstruction_l1"] = Field(
        "lowest reconstruction_l1", description="validation figure by which checkpoints are compared"
    )


class DenoisingRun(AutoEncoderRun):
    """A run that trains a denoising auto-encoder."""

    task: Literal["denoising"] = Field("denoising", description="name of the training task: denoising")
    model: AutoEncoderConfig = AutoEncoderConfig(latent=128)
    corruption: CorruptionConfig = CorruptionConfig()


class VAERun(AutoEncoderRun):
    """A run that trains a VAE."""

    task: Literal["vae"] = Field("vae", description="name of the training task: vae")
    beta: float = Field(1.0, ge=0, le=1e6, description="weight of the KL; with 1 the total is the negative ELBO")
    kl_warmup: int = Field(2000, ge=0, le=MAX_STEPS, description="steps over which the KL weight rises from 0")
    free_bits: float = Field(
        0.0, ge=0, le=1000, description="nats per latent value below which the KL is not penalized"
    )


class AutoEncoderTask(EmaTask):
    """An auto-encoder, its EMA, and the negative log-likelihood of its input."""

    model_class: type[AutoEncoder] = AutoEncoder

    def __init__(self, config: AutoEncoderRun, speakers: int) -> None:
        super().__init__(config, speakers)
        self.spectrogram = MelSpectrogram(config.model.mel)
        self.model = self.model_class(config.model)
        self.ema = ema(self.model, config.ema_decay)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.model.parameters())}

    def setup(self, batches: Iterator[Batch]) -> None:
        self.model.initialize(torch.cat([self.spectrogram(batch["samples"].flatten(0, 1)) for batch in batches]))

    def encoder_input(self, samples: Tensor) -> Tensor:
        """Clean samples (batch, samples) → the log-mels that the encoder gets (batch, n_mels, frames)."""
        return self.spectrogram(samples)

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        samples = amplify(batch["samples"].flatten(0, 1), self.config.gain)
        mel = self.spectrogram(samples)
        valid_bands = valid_band_mask(batch["bandwidth"].flatten(), self.config.model.mel)
        posterior = self.model.encode(self.encoder_input(samples))
        likelihood = self.model.decode(posterior.sample(), mel.shape)
        # Nats per frame: the mean over valid bands times the number of bands.
        nll = -(likelihood.log_probability(mel).mean(dim=2) * valid_bands).sum() / valid_bands.sum() * mel.shape[1]
        terms = {"nll": nll, "reconstruction": losses.reconstruction(likelihood.mean, mel, valid_bands)}
        total = nll
        kl_loss = self.kl_loss(posterior, mel.shape[2])
        if kl_loss:
            terms["kl"], weighted_kl = kl_loss
            total = total + weighted_kl * min(1.0, step / max(1, self.config.kl_warmup))
        return {"model": total}, {name: term.detach() for name, term in terms.items()}

    def kl_loss(self, posterior, frames: int) -> tuple[Tensor, Tensor] | None:
        """KL of the posterior in nats per mel frame, as it is and weighted; None for models without one."""
        return None

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Mel L1 to the clean mel on unseen speakers: of the reconstructions, and of the encoder's input."""
        values = {"input_l1": [], "reconstruction_l1": []}
        for batch in batches:
            samples = batch["samples"].flatten(0, 1)
            mel = self.spectrogram(samples)
            valid_bands = valid_band_mask(batch["bandwidth"].flatten(), self.config.model.mel)
            encoder_input = self.encoder_input(samples)
            reconstructed = self.released.reconstruct(encoder_input)
            values["input_l1"].append(losses.reconstruction(encoder_input, mel, valid_bands))
            values["reconstruction_l1"].append(losses.reconstruction(reconstructed, mel, valid_bands))
        figures = {name: torch.stack(x).mean().item() for name, x in values.items()}
        mels = {"clean": mel[0], "input": encoder_input[0], "reconstructed": reconstructed[0]}
        return ValidationResult(figures, mels)


class DenoisingTask(AutoEncoderTask):
    """An auto-encoder that reconstructs clean from corrupted speech."""

    model_class = DenoisingAutoEncoder

    def encoder_input(self, samples: Tensor) -> Tensor:
        c = self.config
        return mask(self.spectrogram(corrupt(samples, c.corruption, sample_rate=c.model.mel.sample_rate)), c.corruption)


class VAETask(AutoEncoderTask):
    """A VAE, trained with the negative ELBO."""

    model_class = VAE

    def kl_loss(self, posterior, frames: int) -> tuple[Tensor, Tensor]:
        kl = posterior.kl().sum(dim=2).mean(dim=0) / frames  # of each latent value, per mel frame
        # Free bits: Kingma et al. 2016 (arXiv:1606.04934, eq. 15).
        free = self.config.free_bits * posterior.mean.shape[2] / frames
        return kl.sum(), self.config.beta * kl.clamp(min=free).sum()
