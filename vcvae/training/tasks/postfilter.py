"""Training the postfilter of a converter that is there: what its medians lack, until they pass for speech."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vcvae.augment.mel import Perturbation, PerturbationConfig
from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour
from vcvae.models.conversion.vae import DisentanglingConfig, DisentanglingVAE
from vcvae.models.conversion.voice import SpeakerReference
from vcvae.training import losses
from vcvae.training.config import OptimizerConfig, ParallelDataConfig, RunConfig, Speed
from vcvae.training.discriminators.mel import PatchCriticConfig, PatchDiscriminator
from vcvae.training.ema import ema
from vcvae.training.segments import SegmentBatch
from vcvae.training.task import Batch, Task, ValidationResult


class PostfilterWeights(Config):
    """The weight of each term in the sum that the postfilter descends."""

    adversarial: float = Field(1.0, ge=0, description="reconstructions and conversions pass for the speaker's speech")
    reconstruction: float = Field(0.3, ge=0, description="L1 of the mel, natural-log units")
    features: float = Field(1.0, ge=0, description="L1 of the discriminator's features of reconstructions, relative")


class PostfilterConfig(RunConfig):
    """A run that trains the postfilter of a converter."""

    task: Literal["postfilter"] = Field("postfilter", description="what is trained: postfilter")
    data: ParallelDataConfig
    converter: str = Field(description="folder or repository of the conversion model that it is for")
    channels: int = Field(160, gt=0, description="width of the postfilter, at 86 frames per second")
    blocks: int = Field(3, gt=0, description="its residual blocks")
    discriminator: PatchCriticConfig = PatchCriticConfig()
    weights: PostfilterWeights = PostfilterWeights()
    articulation_input: PerturbationConfig = PerturbationConfig(warp=0.25, noise=0.3)
    cutoffs: tuple[float, float] = Field(
        (3.0, 12.0), description="Hz; what moves more quickly is the modulation; each batch draws between these"
    )
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=4e-4, betas=(0.8, 0.99))
    segments: int = Field(4, gt=1, description="of each speaker; each is spoken with the reference of the others")
    speeds: tuple[Speed, ...] = Field(
        (0.89, 1.0, 1.125), description="each speaker at each of these speeds is a speaker"
    )
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights, which are what is released")
    best_by: Literal["lowest flutter_error"] = Field(
        "lowest flutter_error", description="the figure of a validation that says which"
    )

    @cached_property
    def model(self) -> DisentanglingConfig:
        """The converter's sizes, and those of its postfilter.

        Raises:
            VcvaeError: no converter there, or one that has a postfilter of other sizes.
        """
        found = DisentanglingVAE.from_pretrained(self.converter).config
        wanted = {"postfilter_channels": self.channels, "postfilter_blocks": self.blocks}
        if found.postfilter_blocks and found.model_dump(include=set(wanted)) != wanted:
            raise VcvaeError(
                f"converter: {self.converter} has a postfilter of {found.postfilter_blocks} blocks of "
                f"{found.postfilter_channels} channels; to train it further, give 'blocks' and 'channels' so."
            )
        return found.model_copy(update=wanted)


class PostfilterTask(Task):
    """A frozen converter, its postfilter and the postfilter's running average, and a discriminator."""

    def __init__(self, config: PostfilterConfig, speakers: int) -> None:
        super().__init__(config, speakers)
        sizes = config.model
        self.segment_batch = SegmentBatch(sizes, config.segments)
        self.perturb = Perturbation(config.articulation_input, sizes.mel)
        self.model = DisentanglingVAE(sizes).requires_grad_(False)
        start = DisentanglingVAE.from_pretrained(config.converter).state_dict()
        self.model.load_state_dict(self.model.state_dict() | start)
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
        """What an export keeps: the converter with the averaged postfilter."""
        averaged = DisentanglingVAE(self.model.config).requires_grad_(False)
        averaged.load_state_dict(self.model.state_dict())
        averaged.decoder.postfilter.load_state_dict(self.ema.module.state_dict())
        return averaged.to(next(self.parameters()).device).eval()

    def after_step(self) -> None:
        self.ema.update_parameters(self.model.decoder.postfilter)

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The totals of discriminator and postfilter, and the postfilter's terms before weighting.

        Half of the segments are rebuilt and half are converted, from what the encoders features in the speech as it is.
        What is rebuilt is given the modulation of a warped voice, since a conversion has that of another voice, too.
        Parallel speech is rebuilt from what another truly said.
        """
        weights = self.config.weights
        _, mel, valid_bands, _ = self.segment_batch.analyse(batch)
        said = self.segment_batch.parallel_mel(batch, otherwise=mel)
        content, reference, f0 = self._hear(mel, said, valid_bands)
        first, second = slice(len(mel) // 2), slice(len(mel) // 2, None)
        before = self.segment_batch.of_previous_speaker(torch.arange(len(mel), device=mel.device))
        wrong, moved = reference[before], self.segment_batch.to_previous_statistics(f0)
        frames = mel.shape[2]
        low, high = map(math.log, self.config.cutoffs)
        cutoff = math.exp(low + (high - low) * torch.rand(()).item())
        heard, source = (self.model.modulation(x, cutoff=cutoff) for x in (self.perturb(said[first]), mel[second]))
        rebuilt = self.model.decoder(content[first], reference[first], f0[first], frames=frames, modulation=heard)
        converted = self.model.decoder(content[second], wrong[second], moved[second], frames=frames, modulation=source)

        features, score = self.discriminator.features, self.discriminator.score
        real, copy = features(mel[first], valid_bands[first]), features(rebuilt, valid_bands[first])
        fillable = (valid_bands * valid_bands[before])[second]
        fakes = [
            score(copy, reference.embedding[first]),
            score(features(converted, fillable), wrong.embedding[second]),
        ]
        totals = {
            "discriminator": losses.discriminator_loss(
                [score(real, reference.embedding[first])], [*fakes, score(real, wrong.embedding[first])]
            )
        }
        terms = {
            "adversarial": losses.generator_loss(fakes),
            "features": losses.feature_matching(real, copy),
            "reconstruction": losses.reconstruction(rebuilt, mel[first], valid_bands[first]),
        }
        totals["postfilter"] = sum(getattr(weights, name) * term for name, term in terms.items())
        return totals, {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def _hear(self, mel: Tensor, said: Tensor, valid_bands: Tensor) -> tuple[Tensor, SpeakerReference, F0Contour]:
        """Level-zero mels, by their speakers and as `said` by others → contents, the speakers' reference, and f0."""
        model = self.model.eval()
        model.decoder.postfilter.train(self.training)
        reference = self.segment_batch.others(model.reference(mel, model.content(mel).mean, valid_bands=valid_bands))
        return model.content(said).mean, reference, model.f0(mel)

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> ValidationResult:
        """How far the bands of reconstructions vary from frame to frame, in units of how far the originals' do.

        `flutter` of the postfilterd, and `flutter_of_medians` without postfilter: 1 would be right, and `flutter_error` is
        how far the first is from that, which is what training aims at. Silence and unknown bands weigh nothing.
        """
        model = self.released
        decoded, real = {"flutter": 0.0, "flutter_of_medians": 0.0}, 0.0
        for batch in batches:
            _, mel, valid_bands, _ = self.segment_batch.analyse(batch)
            content = model.content(mel).mean
            reference, f0 = (
                self.segment_batch.others(model.reference(mel, content, valid_bands=valid_bands)),
                model.f0(mel),
            )
            real += _flutter(mel, valid_bands)
            for name, moves in (("flutter", model.modulation(mel)), ("flutter_of_medians", None)):
                decoding = model.decoder(content, reference, f0, frames=mel.shape[2], modulation=moves)
                decoded[name] += _flutter(decoding, valid_bands)
        figures = {name: value / max(real, 1e-6) for name, value in decoded.items()}
        figures["flutter_error"] = abs(1 - figures["flutter"])
        first = content[:1], reference[:1], f0[:1]
        pictures = {
            "natural": mel,
            "median": model.decoder(*first, frames=mel.shape[2]),
            "postfilterd": model.decoder(*first, frames=mel.shape[2], modulation=model.modulation(mel[:1])),
        }
        return ValidationResult(figures, {name: shown[0] for name, shown in pictures.items()})


def _flutter(mel: Tensor, valid_bands: Tensor) -> float:
    """Sum of the mean |change| from frame to frame of each valid_bands band of log-mels."""
    return (mel.diff(dim=2).abs().mean(dim=2) * valid_bands).sum().item()
