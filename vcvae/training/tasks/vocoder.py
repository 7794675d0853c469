"""Training the neural vocoder: first to match spectra, then to pass for speech before discriminators.

What it will synthesize in the end are conversions, of which there is no recording. What a larger vocoder, the teacher, makes
of them is the answer there (distillation: Hinton et al. 2015, arXiv:1503.02531).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vcvae.augment.waveform import amplify
from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour, yin
from vcvae.features.mel import MelSpectrogram, valid_band_mask
from vcvae.features.stft import low_pass
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.models.hub import PretrainedModel
from vcvae.training import losses
from vcvae.training.config import OptimizerConfig, RunConfig
from vcvae.training.discriminators.waveform import DiscriminatorConfig, Discriminators
from vcvae.training.ema import ema
from vcvae.training.spectral import MultiResolutionSpectrum
from vcvae.training.task import Batch, Task, ValidationResult
from vcvae.vocoder import load_vocoder
from vcvae.vocoder.source_filter import SourceFilterVocoder, SourceFilterVocoderConfig


class VocoderWeights(Config):
    """The weight of each term in the sum that the generator descends."""

    spectrum: float = Field(1.0, ge=0, description="L1 of the log spectra at several resolutions")
    f0: float = Field(0.1, ge=0, description="the f0 classifier against YIN, nats")
    f0_l1: float = Field(1.0, ge=0, description="its contour against YIN's, octaves")
    adversarial: float = Field(0.1, ge=0, description="passing for speech, mean over the discriminators")
    features: float = Field(1.0, ge=0, description="L1 of the discriminators' features, relative, mean over layers")


class VocoderConfig(RunConfig):
    """A run that trains a vocoder."""

    task: Literal["vocoder"] = Field("vocoder", description="what is trained: vocoder")
    model: SourceFilterVocoderConfig = SourceFilterVocoderConfig()
    discriminators: DiscriminatorConfig = DiscriminatorConfig()
    weights: VocoderWeights = VocoderWeights()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-4, betas=(0.8, 0.99))
    segment_frames: int = Field(32, gt=15, description="mel frames of a segment: .37 s")
    init_from: str | None = Field(
        None, description="folder or repository of a vocoder to start from; by default, chance"
    )
    converter: str | None = Field(
        None, description="folder or repository of a conversion model; its conversions are then spoken, too"
    )
    teacher: str | None = Field(
        None, description="the vocoder that shows how to synthesize these, named as for --vocoder: hifigan:PATH"
    )
    converted: float = Field(0.5, ge=0, lt=1, description="share of a batch that is converted")
    adversarial_from: int = Field(1000, ge=0, description="step at which the discriminators join")
    lr_scale: float = Field(4.0, gt=0, description="learning rate of the discriminators, in units of the generator's")
    gain: tuple[float, float] = Field((-20.0, 3.0), description="dB; range of the random gain of a segment")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights, which are what is released")
    best_by: Literal["lowest spectrum", "lowest mel", "lowest f0_cents", "lowest voicing_error"] = Field(
        "lowest spectrum", description="the figure of a validation that says which"
    )

    @model_validator(mode="after")
    def _holds_together(self) -> VocoderConfig:
        if bool(self.converter) != bool(self.teacher):
            raise ValueError("converter and teacher must be given together: the one makes mels, the other speaks them")
        return self


class VocoderTask(Task):
    """The generator, its running average, its discriminators, and what a batch costs."""

    def __init__(self, config: VocoderConfig, speakers: int) -> None:
        super().__init__(config, speakers)
        mel = config.model.mel
        self.analysis = MelSpectrogram(mel)
        self.generator = SourceFilterVocoder(config.model)
        if config.init_from:
            self.generator.load_state_dict(self._begun(config.init_from).state_dict())
        self.converter = self._fetch(DisentanglingVAE, config.converter) if config.converter else None
        self.teacher = load_vocoder(config.teacher, mel).requires_grad_(False) if config.teacher else None
        self.ema = ema(self.generator, config.ema_decay)
        self.discriminators = Discriminators(config.discriminators)
        self.spectrum = MultiResolutionSpectrum(mel.sample_rate)

    def _fetch(self, kind: type[PretrainedModel], source: str) -> PretrainedModel:
        """A saved model, frozen.

        Raises:
            VcvaeError: none there, or it is for another mel.
        """
        model = kind.from_pretrained(source).requires_grad_(False)
        model.config.mel.require_equal(self.config.model.mel, ours=source, theirs="the configuration")
        return model

    def _begun(self, source: str) -> SourceFilterVocoder:
        """The vocoder that a run starts from.

        Raises:
            VcvaeError: none there, or it is for another mel, or of another size.
        """
        model = self._fetch(SourceFilterVocoder, source)
        theirs, ours = (c.model_dump(exclude={"natural", "estimated"}) for c in (model.config, self.config.model))
        if theirs != ours:
            raise VcvaeError(f"init_from: {source} has other sizes than 'model' says; give those of its config.json.")
        return model

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return {
            "discriminator": list(self.discriminators.parameters()),
            "generator": list(self.generator.parameters()),
        }

    def lr_scale(self, player: str) -> float:
        """Discriminators that learn faster keep up with the generator (Heusel et al. 2017, arXiv:1706.08500)."""
        return self.config.lr_scale if player == "discriminator" else 1.0

    @property
    def released(self) -> SourceFilterVocoder:
        """What an export keeps: the averaged generator."""
        return self.ema.module

    def after_step(self) -> None:
        self.ema.update_parameters(self.generator)

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The totals of generator and discriminators, and the generator's terms before weighting."""
        c = self.config
        # The discriminators are nearly all of the work; only theirs is done in the run's precision.
        with torch.autocast(batch["samples"].device.type, enabled=False):
            natural, copy, bandwidth, terms = self._copy(batch)
        totals = {}
        if step >= c.adversarial_from:
            # At the original's level, whatever it is: quiet speech is to be judged as closely as loud speech.
            level = natural.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-4)
            real, fake = (
                self.discriminators(low_pass(x / level, bandwidth, c.model.mel.sample_rate)) for x in (natural, copy)
            )
            totals["discriminator"] = losses.discriminator_loss(real.scores, fake.scores)
            terms["adversarial"] = losses.generator_loss(fake.scores)
            terms["features"] = losses.feature_matching(real.features, fake.features)
        totals["generator"] = sum(getattr(c.weights, name) * term for name, term in terms.items())
        return totals, {name: term.detach() for name, term in terms.items()}

    def _copy(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """What is to be said and what the generator says, (batch, samples) each, up to how many Hz it counts, and how
        far the one is from the other: the terms that need no discriminators.
        """
        c = self.config
        natural = amplify(batch["samples"].flatten(0, 1), c.gain)
        # Where the mel has bands, a recording's silence is to be heard; above, it says nothing of what was there.
        bandwidth = batch["bandwidth"].flatten().clamp(min=c.model.mel.f_max)
        mel = self.analysis(natural)
        scores, voiced = self.generator.f0_logits(mel)
        contour = self.generator.f0.decode(scores, voiced)
        measured = yin(natural, sample_rate=c.model.mel.sample_rate, hop=c.model.mel.hop)
        count = int(c.converted * len(mel)) if self.converter else 0
        told = contour.detach()
        if count:
            valid_bands = valid_band_mask(batch["bandwidth"].flatten(), c.model.mel)
            converted, target_f0, answer = self._convert(mel, valid_bands, count)
            mel, told = torch.cat([converted, mel[count:]]), F0Contour.join([target_f0, told[count:]])
            natural = torch.cat([answer, natural[count:]])
            bandwidth = torch.cat([torch.full_like(bandwidth[:count], c.model.mel.sample_rate / 2), bandwidth[count:]])
        copy = self.generator.synthesize_for_training(mel, told)
        terms = {
            "spectrum": self.spectrum.distance(self.spectrum(natural), self.spectrum(copy), bandwidth),
            "f0": losses.f0(scores, voiced, measured),
            "f0_l1": losses.f0_l1(contour, measured),
        }
        return natural, copy, bandwidth, terms

    @torch.no_grad()
    def _convert(self, mel: Tensor, valid_bands: Tensor, count: int) -> tuple[Tensor, F0Contour, Tensor]:
        """The first `count` mels, as the speaker before would say them; their melodies; and how the teacher says it."""
        converter, segments = self.converter.eval(), self.config.segments
        heard = converter.voice(mel, valid_bands=valid_bands)
        voices = Voice.join(heard[i : i + segments].average() for i in range(0, len(mel), segments))
        voice = voices[torch.arange(count, device=mel.device) // segments - 1]
        target_f0 = converter.target_f0(mel[:count], voice)
        converted = converter.convert(mel[:count], voice, target_f0=target_f0)
        # Half the time, and what is lost by it is far less than what the generator will ever learn.
        with torch.autocast(mel.device.type, torch.bfloat16):
            answer = self.teacher.eval()(converted)
        return converted, target_f0, answer.float()

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Copies of unseen speakers against the originals: spectral distance, mel L1, f0 error and voicing error."""
        c = self.config.model.mel
        found = {"spectrum": [], "mel": [], "f0_cents": [], "voicing_error": []}
        for batch in batches:
            natural = batch["samples"].flatten(0, 1)
            bandwidth = batch["bandwidth"].flatten().clamp(min=c.f_max)
            mel = self.analysis(natural)
            copy = self.released(mel)
            found["spectrum"].append(self.spectrum.distance(self.spectrum(natural), self.spectrum(copy), bandwidth))
            again = self.analysis(copy)
            found["mel"].append((again - mel).abs().mean())
            a, b = (yin(x, sample_rate=c.sample_rate, hop=c.hop) for x in (natural, copy))
            both = (a.voicing * b.voicing) > 0.5
            found["f0_cents"].append(1200 * (a.log_f0 - b.log_f0)[both].abs().median())
            found["voicing_error"].append((a.voicing != b.voicing).float().mean())
        figures = {name: torch.stack(values).nanmean().item() for name, values in found.items()}
        return ValidationResult(
            figures, {"natural": mel[0], "copy": again[0]}, {"natural": natural[0], "copy": copy[0]}
        )
