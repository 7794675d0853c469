"""Training the conversion model: reconstruct a segment from its perturbed mel and other segments of its speaker."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vcvae.augment.mel import Perturbation, PerturbationConfig
from vcvae.augment.voice import VoiceAugmentation, VoiceAugmentationConfig
from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour, yin
from vcvae.metrics.speakers import equal_error_rate
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.training import losses
from vcvae.training.config import MAX_STEPS, RunConfig, Speeds
from vcvae.training.discriminators.mel import MelDiscriminator, MelDiscriminatorConfig
from vcvae.training.ema import ema
from vcvae.training.segments import SegmentBatch, segment_major
from vcvae.training.task import Batch, EmaTask, ValidationResult

# Names of the weights of residual blocks, of which a model may have more than the one it is initialized from.
BLOCK = re.compile(r"\.(fast|slow|blocks|cross_attention)\.\d+\.")


class LossWeights(Config):
    """Weights of the loss terms."""

    reconstruction: float = Field(1.0, ge=0, le=1e6, description="L1 distance of log-mels")
    kl: float = Field(0.0003, ge=0, le=1e6, description="KL of the content latent, nats per latent frame")
    contrastive: float = Field(
        0.1, ge=0, le=1e6, description="supervised contrastive loss of the speaker embeddings in a batch"
    )
    aam_softmax: float = Field(
        0.03, ge=0, le=1e6, description="AAM-softmax of speaker embeddings among all training speakers"
    )
    f0: float = Field(0.1, ge=0, le=1e6, description="F0 encoder: cross-entropy to the F0 that YIN measures")
    parallel: float = Field(0.1, ge=0, le=1e6, description="parallel speech: MSE of both speakers' content latents")
    adversarial: float = Field(0.1, ge=0, le=1e6, description="LSGAN loss of reconstructions and conversions")
    feature_matching: float = Field(
        0.2, ge=0, le=1e6, description="relative L1 of discriminator features of reconstructions"
    )


class ConversionConfig(RunConfig):
    """A run that trains a conversion model."""

    uses_parallel: ClassVar[bool] = True

    task: Literal["conversion"] = Field("conversion", description="name of the training task: conversion")
    model: DisentanglingConfig = DisentanglingConfig()
    init_from: str | None = Field(
        None, description="folder or repository of a conversion model to start from, with as many blocks or fewer"
    )
    weights: LossWeights = LossWeights()
    segments: int = Field(
        4, gt=1, le=64, description="segments per speaker; each is reconstructed with a reference from the others"
    )
    kl_warmup: int = Field(1000, ge=0, le=MAX_STEPS, description="steps over which the KL weight rises from 0")
    contrastive_temperature: float = Field(0.1, ge=1e-3, le=1000, description="temperature of the contrastive loss")
    aam_scale: float = Field(20.0, gt=0, le=1000, description="scale of the cosines in the AAM-softmax")
    aam_margin: float = Field(0.2, ge=0, le=1.57, description="radians; margin of the AAM-softmax")
    speeds: Speeds = Field(
        (0.89, 1.0, 1.125), description="playback speeds; a speaker at each speed counts as another speaker"
    )
    voice_augmentation: VoiceAugmentationConfig = VoiceAugmentationConfig()
    content_input: PerturbationConfig = PerturbationConfig(warp=0.25, noise=0.3)
    speaker_input: PerturbationConfig = PerturbationConfig(equalizer=1.5, noise=0.3)
    band_dropout: float = Field(
        0.3,
        ge=0,
        le=1,
        description="share of the speakers whose bands above encoder_f_max are masked in the speaker input",
    )
    conversion_share: float = Field(
        0.5, gt=0, le=0.5, description="share of the batch that is also converted, for the adversarial loss"
    )
    back_translation: float = Field(
        0.5, ge=0, le=1, description="share of the batch whose content input is first converted to another speaker"
    )
    conversions_from: int = Field(
        1000, ge=0, le=MAX_STEPS, description="first step with conversions, back-translation and the discriminator"
    )
    discriminator: MelDiscriminatorConfig = MelDiscriminatorConfig()
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the EMA of the weights, which is what is exported"
    )
    best_by: Literal[
        "lowest reconstruction",
        "highest content_similarity",
        "lowest equal_error_rate",
        "highest retrieval",
        "highest converted_retrieval",
    ] = Field("lowest reconstruction", description="validation figure by which checkpoints are compared")


class ConversionTask(EmaTask):
    """The conversion model, its EMA, the discriminator, and the losses."""

    def __init__(self, config: ConversionConfig, speakers: int) -> None:
        super().__init__(config, speakers)
        self.segment_batch = SegmentBatch(config.model, config.segments)
        self.model = DisentanglingVAE(config.model)
        if config.init_from:
            self._init_from(DisentanglingVAE.from_pretrained(config.init_from))
        self.ema = ema(self.model, config.ema_decay)
        self.discriminator = MelDiscriminator(
            config.discriminator, n_mels=config.model.mel.n_mels, speaker_latent=config.model.speaker_latent
        )
        # About unit length: only directions matter, and the longer a vector is, the more slowly it turns.
        self.prototypes = nn.Parameter(
            torch.randn(speakers, config.model.speaker_latent) / config.model.speaker_latent**0.5
        )
        self.augment_voice = VoiceAugmentation(config.voice_augmentation, config.model.mel, config.segments)
        self.content_perturbation = Perturbation(config.content_input, config.model.mel)
        self.speaker_perturbation = Perturbation(config.speaker_input, config.model.mel)

    def _init_from(self, other: DisentanglingVAE) -> None:
        """Copy the weights of another conversion model except its postfilter; blocks that it lacks start as identity.

        A residual block whose projection is zero adds nothing, so that a deeper model starts with the function of the
        shallower one (as in Net2Net, Chen et al. 2016, arXiv:1511.05641).

        Raises:
            VcvaeError: the other model has other sizes, or more blocks.
        """
        weights = {name: x for name, x in other.state_dict().items() if not name.startswith("decoder.postfilter.")}
        try:
            missing, unexpected = self.model.load_state_dict(weights, strict=False)
        except RuntimeError:  # shapes differ
            missing, unexpected = [], ["shapes"]
        if unexpected or not all(BLOCK.search(name) for name in missing):
            raise VcvaeError(
                f"init_from: {self.config.init_from} has other sizes than 'model'; give those of its config.json, "
                "or more blocks."
            )
        added = {name.rpartition(".")[0] for name in missing if ".project." in name}
        for name in added:
            for parameter in self.model.get_submodule(name).parameters():
                nn.init.zeros_(parameter)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {
            "discriminator": list(self.discriminator.parameters()),
            "model": [*self.model.parameters(), self.prototypes],
        }

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The totals of discriminator and model, and the loss terms before weighting."""
        c, model = self.config, self.model
        samples, mel, valid_bands, speakers = self.segment_batch.prepare(batch)
        mel, valid_bands, augmented = self.augment_voice(mel, valid_bands)
        # For the contrastive loss an augmented voice is a speaker of its own.
        row_speakers = torch.arange(len(mel), device=mel.device) % len(batch["speaker"])
        voices = torch.where(augmented, len(self.prototypes) + row_speakers, speakers)

        content_input = self._back_translate(mel, valid_bands) if step >= c.conversions_from else mel
        content_input = self.segment_batch.parallel_mel(batch, otherwise=content_input)
        posterior = model.content(self.content_perturbation(content_input))
        speaker_input = self.speaker_perturbation(mel)
        own_reference = model.reference(speaker_input, posterior.mean, valid_bands=self._band_dropout(valid_bands))
        reference = self.segment_batch.leave_one_out(own_reference)
        f0_scores, voiced = model.f0.logits(mel)
        f0 = model.f0.decode(f0_scores.detach(), voiced.detach())
        content = posterior.sample()
        decoded = model.decoder(content, reference, f0, frames=mel.shape[2])

        measured_f0 = yin(samples, sample_rate=c.model.mel.sample_rate, hop=c.model.mel.hop)
        terms = {
            "reconstruction": losses.reconstruction(decoded, mel, valid_bands),
            "kl": losses.kl(posterior),
            "contrastive": losses.contrastive(own_reference.embedding, voices, temperature=c.contrastive_temperature),
            "aam_softmax": self._aam_softmax(own_reference.embedding, speakers, augmented),
            "f0": losses.f0(f0_scores, voiced, measured_f0),
        }
        if c.weights.parallel and "parallel" in batch:
            terms["parallel"] = self._parallel_loss(mel, posterior.mean, segment_major(batch["is_parallel"]))
        totals = {}
        if step >= c.conversions_from and c.weights.adversarial:
            totals["discriminator"], adversarial_terms = self._adversarial_losses(
                mel, valid_bands, decoded, content, reference, f0
            )
            terms |= adversarial_terms

        weights = c.weights.model_dump()
        weights["kl"] *= min(1.0, step / c.kl_warmup) if c.kl_warmup else 1.0
        totals["model"] = sum(weights[name] * term for name, term in terms.items())
        return totals, {name: term.detach() for name, term in terms.items()}

    def _adversarial_losses(
        self,
        mel: Tensor,
        valid_bands: Tensor,
        decoded: Tensor,
        content: Tensor,
        reference: SpeakerReference,
        f0: F0Contour,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's loss, and the model's adversarial and feature-matching losses.

        Mels and reconstructions `decoded` (batch, n_mels, frames). Part of the batch is converted to the previous
        speaker. Real mels with the wrong speaker are fakes, too.
        """
        discriminator = self.discriminator
        previous = self.segment_batch.of_previous_speaker(torch.arange(len(mel), device=mel.device))
        chosen = slice(max(1, round(self.config.conversion_share * len(mel))))
        target_reference = reference[previous[chosen]]
        target_f0 = self.segment_batch.to_previous_statistics(f0)[chosen]
        converted = self.model.decoder(content[chosen], target_reference, target_f0, frames=mel.shape[2])
        # A conversion is compared in the bands that both source and target have.
        common_bands = (valid_bands * valid_bands[previous])[chosen]
        real_features = discriminator.features(mel, valid_bands)
        decoded_features = discriminator.features(decoded, valid_bands)
        converted_features = discriminator.features(converted, common_bands)
        own_speaker = reference.embedding.detach()
        previous_speaker = own_speaker[previous]
        fake_scores = [
            discriminator.score(decoded_features, own_speaker),
            discriminator.score(converted_features, previous_speaker[chosen]),
        ]
        real_score = discriminator.score(real_features, own_speaker)
        mismatched_score = discriminator.score(real_features, previous_speaker)
        return losses.discriminator_loss([real_score], [*fake_scores, mismatched_score]), {
            "adversarial": losses.generator_loss(fake_scores),
            "feature_matching": losses.feature_matching(real_features, decoded_features),
        }

    def _aam_softmax(self, embeddings: Tensor, speakers: Tensor, augmented: Tensor) -> Tensor:
        """AAM-softmax of the segments whose voice is a training speaker's, not augmented; 0 if there are none."""
        if augmented.all():
            return embeddings.new_zeros(())
        c, real = self.config, ~augmented
        return losses.aam_softmax(
            embeddings[real], speakers[real], self.prototypes, scale=c.aam_scale, margin=c.aam_margin
        )

    def _parallel_loss(self, mel: Tensor, parallel_content: Tensor, is_parallel: Tensor) -> Tensor:
        """MSE between the content of parallel segments and that of the same utterance by another speaker.

        Mels (batch, n_mels, frames), the other speaker's content (batch, content_latent, latent frames), and which
        segments are parallel (batch,).
        """
        if not is_parallel.any():
            return parallel_content.new_zeros(())
        own_content = self.model.content(self.content_perturbation(mel[is_parallel])).mean
        return losses.content_mse(own_content, parallel_content[is_parallel])

    def _band_dropout(self, valid_bands: Tensor) -> Tensor:
        """Valid bands (batch, n_mels) without those above encoder_f_max for a random share of the speakers.

        The speaker embedding then depends less on the bandwidth of a recording.
        """
        speakers = len(valid_bands) // self.config.segments
        dropped = torch.rand(speakers) < self.config.band_dropout
        dropped = dropped.repeat(self.config.segments).to(valid_bands.device)
        above = torch.arange(valid_bands.shape[1], device=valid_bands.device) >= self.config.model.encoder_bands
        return valid_bands.masked_fill(dropped[:, None] & above, 0)

    @torch.no_grad()
    def _back_translate(self, mel: Tensor, valid_bands: Tensor) -> Tensor:
        """Mels in which the last segments are replaced by their conversion to the previous speaker, by the EMA model.

        Reconstructing the original from its conversion is a conversion with a known answer, as in back-translation for
        machine translation (Sennrich et al. 2016, arXiv:1511.06709).
        """
        count, model = round(self.config.back_translation * len(mel)), self.released
        if not count:
            return mel
        content, f0 = model.content(mel).mean, model.f0(mel)
        own_reference = model.reference(mel, content, valid_bands=valid_bands)
        previous = self.segment_batch.of_previous_speaker(torch.arange(len(mel), device=mel.device))
        target_reference = self.segment_batch.leave_one_out(own_reference)[previous]
        target_f0 = self.segment_batch.to_previous_statistics(f0)
        converted = model.decoder(content[-count:], target_reference[-count:], target_f0[-count:], frames=mel.shape[2])
        return torch.cat([mel[:-count], converted])

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Figures on unseen speakers that need no other network, and mels (n_mels, frames).

        The first segment of each speaker is the source, the other segments are the reference. `equal_error_rate` and
        `retrieval` compare the speaker embedding of the source with those of the references; `converted_retrieval` is
        the share of conversions whose embedding is nearest to the target's; `content_similarity` is the correlation of
        the content latents before and after conversion.
        """
        model = self.released
        values = {"reconstruction": [], "content_similarity": []}
        reference_embeddings, source_embeddings, converted_embeddings = [], [], []
        for batch in batches:
            _, mel, valid_bands, _ = self.segment_batch.prepare(batch)
            source, *others = mel.chunk(self.config.segments)
            source_bands, *other_bands = valid_bands.chunk(self.config.segments)
            source_voice = model.voice(source, valid_bands=source_bands)
            other_voices = [model.voice(x, valid_bands=bands) for x, bands in zip(others, other_bands, strict=True)]
            voice = Voice.join(
                Voice.join(other[k : k + 1] for other in other_voices).average() for k in range(len(source))
            )
            content = model.content(source).mean
            decoded = model.decoder(content, voice.reference, model.f0(source), frames=mel.shape[2])
            values["reconstruction"].append(losses.reconstruction(decoded, source, source_bands))
            previous = torch.arange(len(source), device=source.device).roll(1)
            converted = model.convert(source, voice[previous])
            converted_content = model.content(converted).mean
            values["content_similarity"].append(_correlation(content, converted_content))
            reference_embeddings.append(voice.reference.embedding)
            source_embeddings.append(source_voice.reference.embedding)
            # Row k is the conversion to speaker k.
            converted_embeddings.append(model.speaker(converted).roll(-1, 0))
        references = model.speaker.centred(torch.cat(reference_embeddings))
        sources = model.speaker.centred(torch.cat(source_embeddings))
        conversions = model.speaker.centred(torch.cat(converted_embeddings))
        figures = {name: torch.stack(x).mean().item() for name, x in values.items()}
        figures |= speaker_figures(references, sources, conversions, torch.cat([b["speaker"] for b in batches]))
        mels = {"source": source[0], "decoded": decoded[0], "target": others[0][-1], "converted": converted[0]}
        return ValidationResult(figures, mels)


def speaker_figures(references: Tensor, sources: Tensor, conversions: Tensor, speakers: Tensor) -> dict[str, float]:
    """Verification and retrieval by cosine similarity to the reference embeddings.

    Speaker embeddings (rows, dimensions) of unit length: row i of all three is of, or was converted to, the speaker
    numbered speakers[i]; a number may occur in several rows.
    """
    same = speakers[:, None] == speakers[None, :]
    rows = torch.arange(len(speakers), device=speakers.device)
    similarity = sources @ references.T
    converted_similarity = conversions @ references.T
    return {
        "equal_error_rate": equal_error_rate(similarity[same], similarity[~same]),
        "retrieval": same[rows, similarity.argmax(1)].float().mean().item(),
        "converted_retrieval": same[rows, converted_similarity.argmax(1)].float().mean().item(),
    }


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Mean correlation over the batch of two latents (batch, dimensions, frames), each dimension centred over time."""
    a = a - a.mean(2, keepdim=True)
    b = b - b.mean(2, keepdim=True)
    return torch.cosine_similarity(a.flatten(1), b.flatten(1)).mean()
