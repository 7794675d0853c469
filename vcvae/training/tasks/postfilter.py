"""Training the postfilter of a trained conversion model, which adds the fine detail that an L1 decoder averages out."""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vcvae.augment.mel import Perturbation, PerturbationConfig
from vcvae.config import Config, PositiveRange
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.training import losses
from vcvae.training.config import OptimizerConfig, RunConfig, Speeds
from vcvae.training.discriminators.mel import PatchDiscriminator, PatchDiscriminatorConfig
from vcvae.training.ema import ema
from vcvae.training.segments import SegmentBatch
from vcvae.training.task import Batch, Task, ValidationResult


class PostfilterWeights(Config):
    """Weights of the postfilter's loss terms."""

    adversarial: float = Field(1.0, ge=0, le=1e6, description="LSGAN loss of reconstructions and conversions")
    reconstruction: float = Field(0.3, ge=0, le=1e6, description="L1 distance of log-mels")
    feature_matching: float = Field(
        1.0, ge=0, le=1e6, description="relative L1 of discriminator features of reconstructions"
    )


class PostfilterConfig(RunConfig):
    """A run that trains the postfilter of a conversion model."""

    uses_parallel: ClassVar[bool] = True

    task: Literal["postfilter"] = Field("postfilter", description="name of the training task: postfilter")
    converter: str = Field(description="folder or repository of the conversion model")
    channels: int = Field(160, gt=0, le=1024, description="channels of the postfilter")
    blocks: int = Field(3, gt=0, le=64, description="residual blocks of the postfilter")
    discriminator: PatchDiscriminatorConfig = PatchDiscriminatorConfig()
    weights: PostfilterWeights = PostfilterWeights()
    modulation_input: PerturbationConfig = PerturbationConfig(warp=0.25, noise=0.3)
    modulation_cutoffs: PositiveRange = Field(
        (3.0, 12.0), description="Hz; range of the random cutoff of the modulation, drawn for each batch"
    )
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=4e-4, betas=(0.8, 0.99))
    segments: int = Field(
        4, gt=1, le=64, description="segments per speaker; each is decoded with a reference from the others"
    )
    speeds: Speeds = Field(
        (0.89, 1.0, 1.125), description="playback speeds; a speaker at each speed counts as another speaker"
    )
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the EMA of the weights, which is what is exported"
    )
    best_by: Literal["lowest delta_ratio_error"] = Field(
        "lowest delta_ratio_error", description="validation figure by which checkpoints are compared"
    )

    @cached_property
    def model(self) -> DisentanglingConfig:
        """The sizes of the conversion model, with those of the postfilter to train.

        Raises:
            VcvaeError: there is no conversion model, or it has a postfilter of other sizes.
        """
        sizes = DisentanglingVAE.from_pretrained(self.converter).config
        postfilter = {"postfilter_channels": self.channels, "postfilter_blocks": self.blocks}
        if sizes.postfilter_blocks and sizes.model_dump(include=set(postfilter)) != postfilter:
            raise VcvaeError(
                f"converter: {self.converter} has a postfilter of {sizes.postfilter_blocks} blocks of "
                f"{sizes.postfilter_channels} channels; to train it further, set 'blocks' and 'channels' to these."
            )
        return sizes.model_copy(update=postfilter)


class PostfilterTask(Task):
    """A frozen conversion model, its postfilter with EMA, and a discriminator."""

    def __init__(self, config: PostfilterConfig, speakers: int) -> None:
        super().__init__(config, speakers)
        sizes = config.model
        self.segment_batch = SegmentBatch(sizes, config.segments)
        self.modulation_perturbation = Perturbation(config.modulation_input, sizes.mel)
        self.model = DisentanglingVAE(sizes).requires_grad_(False)
        weights = DisentanglingVAE.from_pretrained(config.converter).state_dict()
        self.model.load_state_dict(self.model.state_dict() | weights)
        self.model.decoder.postfilter.requires_grad_(True)
        self.ema = ema(self.model.decoder.postfilter, config.ema_decay)
        self.discriminator = PatchDiscriminator(
            config.discriminator, n_mels=sizes.mel.n_mels, speaker_latent=sizes.speaker_latent
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {
            "discriminator": list(self.discriminator.parameters()),
            "postfilter": list(self.model.decoder.postfilter.parameters()),
        }

    @property
    def released(self) -> DisentanglingVAE:
        """The model that an export writes: the conversion model with the EMA of the postfilter."""
        averaged = DisentanglingVAE(self.model.config).requires_grad_(False)
        averaged.load_state_dict(self.model.state_dict())
        averaged.decoder.postfilter.load_state_dict(self.ema.module.state_dict())
        return averaged.to(next(self.parameters()).device).eval()

    def after_step(self) -> None:
        self.ema.update_parameters(self.model.decoder.postfilter)

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The totals of discriminator and postfilter, and the postfilter's loss terms before weighting.

        The first half of the segments is reconstructed and the second half converted, from encodings of the unperturbed
        mels. A conversion combines one speaker's modulation with another's voice; so the modulation of reconstructions
        is taken from a warped mel. Parallel speech is reconstructed from the utterance of the other speaker.
        """
        weights, discriminator = self.config.weights, self.discriminator
        _, mel, valid_bands, _ = self.segment_batch.prepare(batch)
        content_mel = self.segment_batch.parallel_mel(batch, otherwise=mel)
        content, reference, f0 = self._encode(mel, content_mel, valid_bands)
        first, second = slice(len(mel) // 2), slice(len(mel) // 2, None)
        previous = self.segment_batch.of_previous_speaker(torch.arange(len(mel), device=mel.device))
        target_reference = reference[previous]
        target_f0 = self.segment_batch.to_previous_statistics(f0)
        frames = mel.shape[2]
        low, high = map(math.log, self.config.modulation_cutoffs)
        cutoff = math.exp(low + (high - low) * torch.rand(()).item())
        warped_modulation = self.model.modulation(self.modulation_perturbation(content_mel[first]), cutoff=cutoff)
        source_modulation = self.model.modulation(mel[second], cutoff=cutoff)
        decoded = self.model.decoder(
            content[first], reference[first], f0[first], frames=frames, modulation=warped_modulation, postfilter=True
        )
        converted = self.model.decoder(
            content[second],
            target_reference[second],
            target_f0[second],
            frames=frames,
            modulation=source_modulation,
            postfilter=True,
        )

        real_features = discriminator.features(mel[first], valid_bands[first])
        decoded_features = discriminator.features(decoded, valid_bands[first])
        # A conversion is compared in the bands that both source and target have.
        common_bands = (valid_bands * valid_bands[previous])[second]
        fake_scores = [
            discriminator.score(decoded_features, reference.embedding[first]),
            discriminator.score(discriminator.features(converted, common_bands), target_reference.embedding[second]),
        ]
        real_score = discriminator.score(real_features, reference.embedding[first])
        mismatched_score = discriminator.score(real_features, target_reference.embedding[first])
        totals = {"discriminator": losses.discriminator_loss([real_score], [*fake_scores, mismatched_score])}
        terms = {
            "adversarial": losses.generator_loss(fake_scores),
            "feature_matching": losses.feature_matching(real_features, decoded_features),
            "reconstruction": losses.reconstruction(decoded, mel[first], valid_bands[first]),
        }
        totals["postfilter"] = sum(getattr(weights, name) * term for name, term in terms.items())
        return totals, {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def _encode(
        self, mel: Tensor, content_mel: Tensor, valid_bands: Tensor
    ) -> tuple[Tensor, SpeakerReference, F0Contour]:
        """Encode level-normalized log-mels (batch, n_mels, frames).

        Returns the content of `content_mel`, for each segment of `mel` a reference from its speaker's other segments,
        and the F0 contours of `mel`.
        """
        model = self.model.eval()
        model.decoder.postfilter.train(self.training)
        own_reference = model.reference(mel, model.content(mel).mean, valid_bands=valid_bands)
        return model.content(content_mel).mean, self.segment_batch.leave_one_out(own_reference), model.f0(mel)

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Mean |change| of reconstructed mels from frame to frame (delta), relative to that of the recorded mels.

        `delta_ratio` is that of the postfiltered reconstructions, ideally 1, and `delta_ratio_error` its distance
        from 1; `delta_ratio_unfiltered` is that of reconstructions without postfilter. Silence and invalid bands do not
        count.
        """
        model = self.released
        deltas, recorded_delta = {"delta_ratio": 0.0, "delta_ratio_unfiltered": 0.0}, 0.0
        for batch in batches:
            _, mel, valid_bands, _ = self.segment_batch.prepare(batch)
            content = model.content(mel).mean
            own_reference = model.reference(mel, content, valid_bands=valid_bands)
            reference, f0 = self.segment_batch.leave_one_out(own_reference), model.f0(mel)
            recorded_delta += _mean_delta(mel, valid_bands)
            for name, modulation in (("delta_ratio", model.modulation(mel)), ("delta_ratio_unfiltered", None)):
                decoded = model.decoder(
                    content,
                    reference,
                    f0,
                    frames=mel.shape[2],
                    modulation=modulation,
                    postfilter=modulation is not None,
                )
                deltas[name] += _mean_delta(decoded, valid_bands)
        figures = {name: value / max(recorded_delta, 1e-6) for name, value in deltas.items()}
        figures["delta_ratio_error"] = abs(1 - figures["delta_ratio"])
        example = content[:1], reference[:1], f0[:1]
        postfiltered = model.decoder(
            *example, frames=mel.shape[2], modulation=model.modulation(mel[:1]), postfilter=True
        )
        mels = {
            "recorded": mel[0],
            "unfiltered": model.decoder(*example, frames=mel.shape[2])[0],
            "postfiltered": postfiltered[0],
        }
        return ValidationResult(figures, mels)


def _mean_delta(mel: Tensor, valid_bands: Tensor) -> float:
    """Mean |change| between frames of log-mels (batch, n_mels, frames), summed over the valid bands of the batch."""
    return (mel.diff(dim=2).abs().mean(dim=2) * valid_bands).sum().item()
