"""Training a conversion model on its conversions, which two frozen networks score.

The last stage of training: from a model that reconstructs well and has a postfilter. Segments are converted to other
speakers, and some to their own with another segment as the reference; decoder, postfilter and vocoder make the samples
that the frozen networks get, as in use. The reconstruction and the KL divergence stay, so that the model remains the
auto-encoder that it was.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.augment.mel import Perturbation, PerturbationConfig
from vcvae.config import Config
from vcvae.conversion_losses import ConversionLosses, load_losses, spec_augment
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour
from vcvae.features.mel import level
from vcvae.models.conversion.asr_features import asr_features, check_recognizer
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.training import losses
from vcvae.training.config import OptimizerConfig, RunConfig, Speeds
from vcvae.training.ema import ema
from vcvae.training.segments import SegmentBatch
from vcvae.training.task import Batch, EmaTask, ValidationResult

BANK_MOMENTUM = 0.3  # weight of a batch's segments in the running mean of their speaker's statistics


class ConversionLossWeights(Config):
    """Weights of the loss terms."""

    content: float = Field(24.0, ge=0, le=1e6, description="content loss of the conversions, by a frozen recognizer")
    speaker: float = Field(
        0.35, ge=0, le=1e6, description="speaker loss of the conversions: cross-entropy among all training speakers"
    )
    cosine: float = Field(
        2.0, ge=0, le=1e6, description="1 - the cosine of a conversion and its target, with what all speech shares"
    )
    reconstruction: float = Field(1.0, ge=0, le=1e6, description="L1 distance of log-mels")
    kl: float = Field(0.0002, ge=0, le=1e6, description="KL of the content latent, nats per latent frame")


class ConversionLossesConfig(RunConfig):
    """A run that trains a conversion model on the scores that frozen networks give its conversions."""

    task: Literal["conversion_losses"] = Field(
        "conversion_losses", description="name of the training task: conversion_losses"
    )
    converter: str = Field(description="folder or repository of the conversion model to start from")
    speaker_net: str | None = Field(
        None, description="folder or repository of the frozen speaker network; by default the released one"
    )
    content_net: str | None = Field(
        None, description="folder or repository of the frozen recognizer; by default the released one"
    )
    vocoder: str | None = Field(
        None, description="folder or repository of a source-filter vocoder; by default the released one"
    )
    weights: ConversionLossWeights = ConversionLossWeights()
    speaker_scale: float = Field(20.0, gt=0, le=1000, description="scale of the cosines in the speaker loss")
    conversion_share: float = Field(
        0.25, gt=0, le=1, description="share of the batch that is converted and scored; these cost most"
    )
    own_share: float = Field(0.25, ge=0, le=1, description="share of these that is converted to its own speaker")
    short_reference: float = Field(0.15, ge=0, le=1, description="probability of a reference of a few frames only")
    short_reference_frames: int = Field(16, gt=0, le=4096, description="content frames of such a reference")
    no_statistics: float = Field(
        0.15, ge=0, le=1, description="probability of a reference without the frozen speaker network's statistics"
    )
    no_asr_features: float = Field(
        0.25,
        ge=0,
        le=1,
        description="probability of content without ASR features, as of live conversions, for a model that takes them",
    )
    copied_asr_features: float = Field(
        0.25, ge=0, le=1, description="probability of those of the vocoder's copy of the source, as in fine-tuning"
    )
    no_modulation: float = Field(
        0.1, ge=0, le=1, description="probability of conversions without envelope modulation, which lets the source in"
    )
    content_input: PerturbationConfig = PerturbationConfig(warp=0.25, noise=0.3)
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, betas=(0.9, 0.98))
    segments: int = Field(4, gt=1, le=64, description="segments per speaker; a reference is made from the others")
    speeds: Speeds = Field(
        (0.89, 1.0, 1.125), description="playback speeds; a speaker at each speed counts as another speaker"
    )
    ema_decay: float = Field(
        0.995, ge=0, lt=1, description="decay of the EMA of the weights, which is what is exported"
    )
    best_by: Literal["lowest content", "lowest speaker"] = Field(
        "lowest speaker", description="validation figure by which checkpoints are compared"
    )

    @cached_property
    def model(self) -> DisentanglingConfig:
        """The sizes of the model that is trained.

        Raises:
            VcvaeError: there is no conversion model.
        """
        return DisentanglingVAE.from_pretrained(self.converter).config


class ConversionLossesTask(EmaTask):
    """The conversion model, its EMA, and the frozen networks.

    `bank` holds for each training voice the running mean of the frozen speaker network's statistics; the speaker loss
    classifies conversions among them.
    """

    def __init__(self, config: ConversionLossesConfig, speakers: int) -> None:
        """
        Raises:
            VcvaeError: the frozen networks are not made for the model.
        """
        super().__init__(config, speakers)
        frozen = load_losses(
            config.model.mel,
            speaker_net=config.speaker_net,
            content_net=config.content_net,
            vocoder=config.vocoder,
        )
        if frozen is None:
            raise VcvaeError(f"converter: {config.converter} has another mel than the frozen networks.")
        if config.model.asr_channels:
            check_recognizer(frozen.content_net, config.model)
        self._frozen = [frozen]  # in a list, so that a checkpoint does not hold their weights
        sizes = config.model
        self.segment_batch = SegmentBatch(sizes, config.segments)
        self.model = DisentanglingVAE.from_pretrained(config.converter).train()
        self.model.f0.requires_grad_(False)
        self.ema = ema(self.model, config.ema_decay)
        self.content_perturbation = Perturbation(config.content_input, sizes.mel)
        self.register_buffer("bank", torch.zeros(speakers, frozen.speaker_net.outputs))

    @property
    def frozen(self) -> ConversionLosses:
        """The frozen networks, on the device of the model."""
        return self._frozen[0].to(self.bank.device)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": [p for p in self.model.parameters() if p.requires_grad]}

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The total, and the loss terms before weighting."""
        c, model = self.config, self.model
        samples, mel, valid_bands, speakers = self.segment_batch.prepare(batch)
        statistics = self._statistics(mel)
        self._update_bank(statistics, speakers)
        with torch.no_grad():
            f0 = model.f0(mel)
            keys = model.content(mel).mean
        own_reference = model.reference(mel, keys, valid_bands=valid_bands, statistics=statistics)
        reference = self._drop_parts(self.segment_batch.leave_one_out(own_reference))

        posterior = model.content(self.content_perturbation(mel))
        decoded = model.decoder(posterior.sample(), reference, f0, frames=mel.shape[2])
        terms = {"reconstruction": losses.reconstruction(decoded, mel, valid_bands), "kl": losses.kl(posterior)}
        terms |= self._conversion_terms(samples, mel, reference, f0, speakers)
        weights = c.weights.model_dump()
        total = sum(weights[name] * term for name, term in terms.items())
        return {"model": total}, {name: term.detach() for name, term in terms.items()}

    def _conversion_terms(
        self, samples: Tensor, mel: Tensor, reference: SpeakerReference, f0: F0Contour, speakers: Tensor
    ) -> dict[str, Tensor]:
        """The content loss and the speaker loss of a random part of the segments, converted and synthesized.

        The first of them are converted to their own speaker, the others to the previous speaker of the batch.
        """
        c, model, frozen = self.config, self.model, self.frozen
        rows = torch.randperm(len(mel), device=mel.device)[: max(1, round(c.conversion_share * len(mel)))]
        own = torch.arange(len(rows), device=mel.device) < round(c.own_share * len(rows))
        previous = self.segment_batch.of_previous_speaker(torch.arange(len(mel), device=mel.device))
        targets = torch.where(own, rows, previous[rows])
        source_mel = mel[rows]
        moved = self.segment_batch.to_previous_statistics(f0)
        target_f0 = F0Contour(
            torch.where(own[:, None], f0.log_f0[rows], moved.log_f0[rows]), f0.voicing[rows]
        ).within_range()
        with torch.no_grad():
            copies = frozen.synthesize(source_mel, f0[rows])
            source_features = frozen.content_net(copies)
        draw = float(torch.rand(()))
        taken = None
        if draw >= c.no_asr_features:
            is_copied = draw < c.no_asr_features + c.copied_asr_features
            taken = self._asr_features(copies if is_copied else samples[rows])
        converted = model.decoder(
            model.content(source_mel, asr_features=taken).mean,
            reference[targets],
            target_f0,
            frames=mel.shape[2],
            modulation=None if torch.rand(()) < c.no_modulation else model.modulation(source_mel),
            postfilter=True,
        )
        bands = slice(model.config.encoder_bands)
        converted = converted + level(source_mel[:, bands]) - level(converted[:, bands])
        synthesized = frozen.synthesize(converted, target_f0)
        statistics = frozen.speaker_net(torch.cat([spec_augment(x[None]) for x in frozen.analysis(synthesized)]))
        return {
            "content": frozen.content_net.distance(frozen.content_net(synthesized), source_features),
            "speaker": self._speaker_loss(statistics, speakers[targets]),
            "cosine": 1 - torch.cosine_similarity(statistics, self.bank[speakers[targets]]).mean(),
        }

    def _speaker_loss(self, statistics: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of the target among the voices of the bank, by the cosine of centred statistics.

        Conversions (batch, statistics), and the numbers of their targets (batch,). Most of a cosine of statistics as
        they are is what all speech shares; so their mean over the voices is subtracted.
        """
        filled = self.bank.any(dim=1)
        mean = self._bank_mean()
        bank = F.normalize(self.bank - mean, dim=1)
        cosines = F.normalize(statistics - mean, dim=1) @ bank.T
        return F.cross_entropy((self.config.speaker_scale * cosines).masked_fill(~filled, -torch.inf), targets)

    @torch.no_grad()
    def _asr_features(self, samples: Tensor) -> Tensor | None:
        """The ASR features of samples (batch, samples) that the content encoder takes, if it takes any."""
        return asr_features(self.frozen.content_net, samples, self.config.model.mel) if self.model.content.asr else None

    @torch.no_grad()
    def _statistics(self, mel: Tensor) -> Tensor:
        """The frozen speaker network's statistics of mels (batch, n_mels, frames)."""
        return self.frozen.speaker_net(mel)

    @torch.no_grad()
    def _update_bank(self, statistics: Tensor, speakers: Tensor) -> None:
        for speaker in speakers.unique():
            mean = statistics[speakers == speaker].mean(dim=0)
            is_new = not self.bank[speaker].any()
            self.bank[speaker].lerp_(mean, 1.0 if is_new else BANK_MOMENTUM)
        if self.model.statistics is not None:
            self.model.statistics.centre.copy_(self._bank_mean())

    def _bank_mean(self) -> Tensor:
        """The mean over the voices that were there, (statistics,)."""
        return self.bank[self.bank.any(dim=1)].mean(dim=0)

    def _drop_parts(self, reference: SpeakerReference) -> SpeakerReference:
        """The reference, or at random one of a few frames, or without statistics: drawn voices have no more."""
        if torch.rand(()) < self.config.no_statistics:
            reference = replace(reference, statistics=torch.zeros_like(reference.statistics))
        if torch.rand(()) < self.config.short_reference:
            order = torch.randperm(reference.keys.shape[1], device=reference.keys.device)
            reference = reference.with_frames(order[: self.config.short_reference_frames])
        return reference

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Of conversions between unseen speakers by the EMA: the content loss, and 1 − the cosine to the target.

        Cosines are of the frozen speaker network's statistics, centred by the training voices. `speaker_own` and
        `content_own` are those of segments in their own voice, from a reference of the other segments.
        """
        model, frozen = self.released, self.frozen
        mean = self._bank_mean()
        values = {"content": [], "speaker": [], "content_own": [], "speaker_own": []}
        for batch in batches:
            recorded, mel, valid_bands, _ = self.segment_batch.prepare(batch)
            statistics = self._statistics(mel)
            content = model.content(mel).mean
            own_reference = model.reference(mel, content, valid_bands=valid_bands, statistics=statistics)
            reference = self.segment_batch.leave_one_out(own_reference)
            statistics = statistics.unflatten(0, (self.config.segments, -1))
            speaker_mean = statistics[1:].mean(dim=0)  # the first segment is the source
            f0 = model.f0(mel)
            first = slice(len(mel) // self.config.segments)
            previous = self.segment_batch.of_previous_speaker(torch.arange(len(mel), device=mel.device))[first]
            source_features = frozen.content_net(frozen.synthesize(mel[first], f0[first]))
            source_content = model.content(mel[first], asr_features=self._asr_features(recorded[first])).mean
            for suffix, rows, target_f0 in (
                ("", previous, self.segment_batch.to_previous_statistics(f0)[first]),
                ("_own", torch.arange(len(mel), device=mel.device)[first], f0[first]),
            ):
                converted = model.decoder(
                    source_content,
                    reference[rows],
                    target_f0,
                    frames=mel.shape[2],
                    modulation=model.modulation(mel[first]),
                    postfilter=True,
                )
                samples = frozen.synthesize(converted, target_f0)
                target = F.normalize(speaker_mean[rows] - mean, dim=1)
                cosine = (F.normalize(frozen.speaker_net(frozen.analysis(samples)) - mean, dim=1) * target).sum(dim=1)
                values["speaker" + suffix].append(1 - cosine.mean())
                values["content" + suffix].append(
                    frozen.content_net.distance(frozen.content_net(samples), source_features)
                )
        figures = {name: torch.stack(x).mean().item() for name, x in values.items()}
        return ValidationResult(figures, {"source": mel[0], "converted": converted[0]})
