"""Training the disentangling VAE: rebuild an utterance from its perturbed self and other segments of its speaker."""

from __future__ import annotations

import re
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vcvae.augment.mel import Perturbation, PerturbationConfig
from vcvae.augment.voice import VoiceAugmentation, VoiceAugmentationConfig
from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.f0 import yin
from vcvae.metrics.speakers import equal_error_rate
from vcvae.models.conversion.vae import DisentanglingConfig, DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.training import losses
from vcvae.training.config import ParallelDataConfig, RunConfig, Speed
from vcvae.training.discriminators.mel import MelDiscriminator, MelDiscriminatorConfig
from vcvae.training.ema import ema
from vcvae.training.segments import SegmentBatch
from vcvae.training.task import Batch, Task, ValidationResult

# In the names of weights: those parts of which a converter may have more, and another fewer.
BLOCK = re.compile(r"\.(fast|slow|blocks|cross_attention)\.\d+\.")


class LossWeights(Config):
    """The weight of each term in the sum that training descends."""

    reconstruction: float = Field(1.0, ge=0, description="L1 of the mel, natural-log units")
    kl: float = Field(0.0003, ge=0, description="nats per content frame; what the content latent costs")
    contrastive: float = Field(0.1, ge=0, description="speaker latents: in a batch, one speaker attracts, others repel")
    aam_softmax: float = Field(0.03, ge=0, description="… and each is told from all speakers by a margin, nats")
    f0: float = Field(0.1, ge=0, description="the f0 encoder against YIN")
    recognition: float = Field(0.0, ge=0, description="conversions: the averaged speaker encoder hears the target")
    content_mse: float = Field(0.0, ge=0, description="conversions: the averaged content encoder hears the same words")
    parallel: float = Field(0.1, ge=0, description="parallel speech: content latents of both speakers are the same")
    adversarial: float = Field(0.1, ge=0, description="reconstructions and conversions pass for the speaker's speech")
    features: float = Field(0.2, ge=0, description="L1 of the discriminator's features of reconstructions, relative")


class ConversionConfig(RunConfig):
    """A run that trains a converter."""

    task: Literal["conversion"] = Field("conversion", description="what is trained: conversion")
    data: ParallelDataConfig
    model: DisentanglingConfig = DisentanglingConfig()
    init_from: str | None = Field(
        None, description="folder or repository of a converter to start from, as deep or less; by default, chance"
    )
    weights: LossWeights = LossWeights()
    segments: int = Field(4, gt=1, description="of each of these; each is rebuilt with the reference of the others")
    kl_warmup: int = Field(1000, ge=0, description="steps over which the weight of the KL rises from 0")
    temperature: float = Field(0.1, gt=0, description="of the cosines of a batch's speakers")
    scale: float = Field(20.0, gt=0, description="of the cosines by which all speakers are told apart")
    margin: float = Field(0.2, ge=0, description="radians by which the right speaker must be nearer")
    speeds: tuple[Speed, ...] = Field(
        (0.89, 1.0, 1.125), description="each speaker at each of these speeds is a speaker"
    )
    voice_augmentation: VoiceAugmentationConfig = VoiceAugmentationConfig()
    content_input: PerturbationConfig = PerturbationConfig(warp=0.25, noise=0.3)
    speaker_input: PerturbationConfig = PerturbationConfig(equalizer=1.5, noise=0.3)
    band_dropout: float = Field(
        0.3, ge=0, le=1, description="share of the speakers of whom no band above encoder_f_max is heard"
    )
    conversions: float = Field(0.5, gt=0, le=0.5, description="share of the batch that is also converted")
    back_translation: float = Field(
        0.5, ge=0, le=1, description="share of the batch whose words are heard from another voice, converted"
    )
    conversions_from: int = Field(
        1000, ge=0, description="step at which conversions, back_translation and the discriminator begin"
    )
    discriminator: MelDiscriminatorConfig = MelDiscriminatorConfig()
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights, which are what is released")
    best_by: Literal[
        "lowest reconstruction",
        "highest content_similarity",
        "lowest equal_error_rate",
        "highest retrieval",
        "highest converted_retrieval",
    ] = Field("lowest reconstruction", description="the figure of a validation that says which")


class ConversionTask(Task):
    """The model, its running average, and what a batch costs."""

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
        # Of about unit length: only their directions count, and long ones would turn slowly.
        self.prototypes = nn.Parameter(
            torch.randn(speakers, config.model.speaker_latent) / config.model.speaker_latent**0.5
        )
        self.augment_voice = VoiceAugmentation(config.voice_augmentation, config.model.mel, config.segments)
        self.content_perturbation = Perturbation(config.content_input, config.model.mel)
        self.speaker_perturbation = Perturbation(config.speaker_input, config.model.mel)

    def _init_from(self, other: DisentanglingVAE) -> None:
        """Take the weights of another converter, but for its postfilter; blocks that it lacks begin as if not there.

        What a residual block adds is nothing while its projection is zero (as in Net2Net, Chen et al. 2016,
        arXiv:1511.05641), so that a deeper converter begins where a shallower one stands.
        """
        theirs = {name: x for name, x in other.state_dict().items() if not name.startswith("decoder.postfilter.")}
        try:
            missing, unexpected = self.model.load_state_dict(theirs, strict=False)
        except RuntimeError:  # widths that differ
            missing, unexpected = [], ["widths"]
        if unexpected or not all(BLOCK.search(name) for name in missing):
            raise VcvaeError(
                f"init_from: {self.config.init_from} has other sizes than 'model' says; give those of its config.json, "
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

    @property
    def released(self) -> DisentanglingVAE:
        """What an export keeps: the averaged model."""
        return self.ema.module

    def after_step(self) -> None:
        self.ema.update_parameters(self.model)

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The total to descend, and its terms before weighting."""
        c, model, weights = self.config, self.model, self.config.weights
        samples, mel, valid_bands, speakers = self.segment_batch.analyse(batch)
        mel, valid_bands, augmented = self.augment_voice(mel, valid_bands)
        each = torch.arange(len(mel), device=mel.device) % len(batch["speaker"])
        voices = torch.where(augmented, len(self.prototypes) + each, speakers)
        frames, hop = mel.shape[2], c.model.mel.hop

        said = self._back_translate(mel, valid_bands) if step >= c.conversions_from else mel
        posterior = model.content(self.content_perturbation(self.segment_batch.parallel_mel(batch, otherwise=said)))
        reference = model.reference(
            self.speaker_perturbation(mel), posterior.mean, valid_bands=self._band_dropout(valid_bands)
        )
        latents, others = reference.embedding, self.segment_batch.others(reference)
        scores, voiced = model.f0.logits(mel)
        f0 = model.f0.decode(scores.detach(), voiced.detach())
        content = posterior.sample()
        decoded = model.decoder(content, others, f0, frames=frames)

        terms = {
            "reconstruction": losses.reconstruction(decoded, mel, valid_bands),
            "kl": losses.kl(posterior),
            "contrastive": losses.contrastive(latents, voices, temperature=c.temperature),
            "aam_softmax": self._identify(latents, speakers, augmented),
            "f0": losses.f0(scores, voiced, yin(samples, sample_rate=c.model.mel.sample_rate, hop=hop)),
        }
        if weights.parallel and "parallel" in batch:
            terms["parallel"] = self._difference(mel, posterior.mean, batch["is_parallel"].T.flatten())
        totals = {}
        if step >= c.conversions_from and (weights.recognition or weights.content_mse or weights.adversarial):
            converted_ones = slice(max(1, round(c.conversions * len(mel))))
            before = self.segment_batch.of_previous_speaker(torch.arange(len(mel), device=mel.device))
            wanted, moved = (
                others[before[converted_ones]],
                self.segment_batch.to_previous_statistics(f0)[converted_ones],
            )
            converted = model.decoder(content[converted_ones], wanted, moved, frames=frames)
            if weights.recognition or weights.content_mse:
                terms |= self._recognise(converted, speakers[before][converted_ones], mel[converted_ones])
            if weights.adversarial:
                fillable = (valid_bands * valid_bands[before])[converted_ones]
                features, score = self.discriminator.features, self.discriminator.score
                real, rebuilt, changed = (
                    features(mel, valid_bands),
                    features(decoded, valid_bands),
                    features(converted, fillable),
                )
                true, wrong = others.embedding.detach(), others.embedding.detach()[before]
                fakes = [score(rebuilt, true), score(changed, wrong[converted_ones])]
                totals["discriminator"] = losses.discriminator_loss([score(real, true)], [*fakes, score(real, wrong)])
                terms["adversarial"] = losses.generator_loss(fakes)
                terms["features"] = losses.feature_matching(real, rebuilt)

        factors = weights.model_dump()
        factors["kl"] *= min(1.0, step / c.kl_warmup) if c.kl_warmup else 1.0
        totals["model"] = sum(factors[name] * term for name, term in terms.items())
        return totals, {name: term.detach() for name, term in terms.items()}

    def _identify(self, latents: Tensor, speakers: Tensor, augmented: Tensor) -> Tensor:
        """Of the voices that somebody has; those that were augmented are told from the others of the batch alone."""
        if augmented.all():
            return latents.new_zeros(())
        c, real = self.config, ~augmented
        return losses.aam_softmax(latents[real], speakers[real], self.prototypes, scale=c.scale, margin=c.margin)

    def _difference(self, mel: Tensor, said: Tensor, is_parallel: Tensor) -> Tensor:
        """Of parallel speech, between the content of its own mel and what was heard from the other speaker."""
        if not is_parallel.any():
            return said.new_zeros(())
        own = self.model.content(self.content_perturbation(mel[is_parallel])).mean
        return losses.content_mse(own, said[is_parallel])

    def _band_dropout(self, valid_bands: Tensor) -> Tensor:
        """Of some speakers only the bands that all recordings have: a voice on the telephone is the same voice."""
        speakers = len(valid_bands) // self.config.segments
        band_dropout = (
            (torch.rand(speakers) < self.config.band_dropout).repeat(self.config.segments).to(valid_bands.device)
        )
        above = torch.arange(valid_bands.shape[1], device=valid_bands.device) >= self.config.model.encoder_bands
        return valid_bands.masked_fill(band_dropout[:, None] & above, 0)

    @torch.no_grad()
    def _back_translate(self, mel: Tensor, valid_bands: Tensor) -> Tensor:
        """The last of the segments as the averaged model says them in the voice of the speaker before.

        To rebuild the original from that is a conversion whose answer is valid_bands: what comes from another voice, to what
        its own speaker truly said. So are translators trained on one language alone (Sennrich et al. 2016,
        arXiv:1511.06709).
        """
        count, model = round(self.config.back_translation * len(mel)), self.released
        if not count:
            return mel
        content, f0 = model.content(mel).mean, model.f0(mel)
        reference = self.segment_batch.others(model.reference(mel, content, valid_bands=valid_bands))[
            self.segment_batch.of_previous_speaker(torch.arange(len(mel), device=mel.device))
        ]
        moved = self.segment_batch.to_previous_statistics(f0)[-count:]
        back_translated = model.decoder(content[-count:], reference[-count:], moved, frames=mel.shape[2])
        return torch.cat([mel[:-count], back_translated])

    def _recognise(self, converted: Tensor, speakers: Tensor, mel: Tensor) -> dict[str, Tensor]:
        """The averaged encoders features the wanted speakers, and the same words."""
        heard = self.released.speaker(converted).mean
        with torch.no_grad():
            said = self.released.content(mel).mean
        return {
            "recognition": losses.aam_softmax(heard, speakers, self.prototypes.detach(), scale=self.config.scale),
            "content_mse": losses.content_mse(self.released.content(converted).mean, said),
        }

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Figures on unseen speakers that need no other network, and mels (n_mels, frames) to look at.

        `equal_error_rate` and `retrieval` ask whether speaker latents find the speaker again; `converted_retrieval`
        whether a conversion's latent is nearest to its target's; `content_similarity` is the correlation of what
        the content encoder hears before and after.
        """
        model = self.released
        found = {"reconstruction": [], "content_similarity": []}
        enrolled, tested, converted_latents = [], [], []
        for batch in batches:
            _, mel, valid_bands, _ = self.segment_batch.analyse(batch)
            source, *rest = mel.chunk(self.config.segments)
            own, *other = (
                model.voice(x, valid_bands=filled)
                for x, filled in zip((source, *rest), valid_bands.chunk(self.config.segments), strict=True)
            )
            partner = Voice.join(Voice.join(o[i : i + 1] for o in other).average() for i in range(len(source)))
            content = model.content(source).mean
            decoded = model.decoder(content, partner.reference, model.f0(source), frames=mel.shape[2])
            found["reconstruction"].append(losses.reconstruction(decoded, source, valid_bands[: len(source)]))
            before = torch.arange(len(source), device=source.device).roll(1)
            converted = model.convert(source, partner[before])
            said, heard = (x - x.mean(2, keepdim=True) for x in (content, model.content(converted).mean))
            found["content_similarity"].append(torch.cosine_similarity(said.flatten(1), heard.flatten(1)).mean())
            enrolled.append(partner.reference.embedding)
            tested.append(own.reference.embedding)
            converted_latents.append(model.speaker(converted).mean.roll(-1, 0))
        enrolled, tested, converted_latents = (
            model.speaker.centred(torch.cat(latents)) for latents in (enrolled, tested, converted_latents)
        )
        speakers = torch.cat([batch["speaker"] for batch in batches])
        same = speakers[:, None] == speakers[None, :]
        similarity, converted_similarity = tested @ enrolled.T, converted_latents @ enrolled.T
        rows = torch.arange(len(speakers), device=speakers.device)
        figures = {name: torch.stack(values).mean().item() for name, values in found.items()} | {
            "equal_error_rate": equal_error_rate(similarity[same], similarity[~same]),
            "retrieval": same[rows, similarity.argmax(1)].float().mean().item(),
            "converted_retrieval": same[rows, converted_similarity.argmax(1)].float().mean().item(),
        }
        pictures = {"source": source[0], "decoded": decoded[0], "target": rest[0][-1], "converted": converted[0]}
        return ValidationResult(figures, pictures)
