"""Training the texture of a converter that is there: what its medians lack, until they pass for speech."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.models.disentangling import DisentanglingConfig, DisentanglingVAE
from vcvae.models.voice import Timbre
from vcvae.pitch import Pitch
from vcvae.training import losses
from vcvae.training.average import average
from vcvae.training.critic import PatchCritic, PatchCriticConfig
from vcvae.training.exchange import Exchange
from vcvae.training.perturbation import Perturbation, PerturbationConfig
from vcvae.training.run import OptimizerConfig, ParallelDataConfig, RunConfig, Speed
from vcvae.training.task import Batch, Findings, Task


class TextureWeights(Config):
    """The weight of each term in the sum that the texture descends."""

    adversarial: float = Field(1.0, ge=0, description="reconstructions and conversions pass for the speaker's speech")
    reconstruction: float = Field(0.3, ge=0, description="L1 of the mel, natural-log units")
    features: float = Field(1.0, ge=0, description="L1 of the critic's features of reconstructions, relative")


class TextureConfig(RunConfig):
    """A run that trains the texture of a converter."""

    task: Literal["texture"] = Field("texture", description="what is trained: texture")
    data: ParallelDataConfig
    converter: str = Field(description="folder or repository of the conversion model that it is for")
    channels: int = Field(160, gt=0, description="width of the texture, at 86 frames per second")
    blocks: int = Field(3, gt=0, description="its residual blocks")
    critic: PatchCriticConfig = PatchCriticConfig()
    weights: TextureWeights = TextureWeights()
    articulation_input: PerturbationConfig = PerturbationConfig(warp=0.25, noise=0.3)
    cutoffs: tuple[float, float] = Field(
        (3.0, 12.0), description="Hz; what moves more quickly is the articulation; each batch draws between these"
    )
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=4e-4, betas=(0.8, 0.99))
    segments: int = Field(4, gt=1, description="of each speaker; each is spoken with the timbre of the others")
    speeds: tuple[Speed, ...] = Field(
        (0.89, 1.0, 1.125), description="each speaker at each of these speeds is a speaker"
    )
    average: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights, which are what is released")
    best_by: Literal["lowest flutter_error"] = Field(
        "lowest flutter_error", description="the figure of a validation that says which"
    )

    @cached_property
    def model(self) -> DisentanglingConfig:
        """The converter's sizes, and those of its texture.

        Raises:
            VcvaeError: no converter there, or one that has a texture of other sizes.
        """
        found = DisentanglingVAE.from_pretrained(self.converter).config
        wanted = {"texture_channels": self.channels, "texture_blocks": self.blocks}
        if found.texture_blocks and found.model_dump(include=set(wanted)) != wanted:
            raise VcvaeError(
                f"converter: {self.converter} has a texture of {found.texture_blocks} blocks of "
                f"{found.texture_channels} channels; to train it further, give 'blocks' and 'channels' so."
            )
        return found.model_copy(update=wanted)


class TextureTask(Task):
    """A frozen converter, its texture and the texture's running average, and a critic."""

    def __init__(self, config: TextureConfig, speakers: int) -> None:
        super().__init__(config, speakers)
        sizes = config.model
        self.exchange = Exchange(sizes, config.segments)
        self.perturb = Perturbation(config.articulation_input, sizes.mel)
        self.model = DisentanglingVAE(sizes).requires_grad_(False)
        start = DisentanglingVAE.from_pretrained(config.converter).state_dict()
        self.model.load_state_dict(self.model.state_dict() | start)
        self.model.decoder.texture.requires_grad_(True)
        self.average = average(self.model.decoder.texture, config.average)
        self.critic = PatchCritic(config.critic, n_mels=sizes.mel.n_mels, speaker_latent=sizes.speaker_latent)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"critic": list(self.critic.parameters()), "texture": list(self.model.decoder.texture.parameters())}

    @property
    def released(self) -> DisentanglingVAE:
        """What an export keeps: the converter with the averaged texture."""
        averaged = DisentanglingVAE(self.model.config).requires_grad_(False)
        averaged.load_state_dict(self.model.state_dict())
        averaged.decoder.texture.load_state_dict(self.average.module.state_dict())
        return averaged.to(next(self.parameters()).device).eval()

    def after_step(self) -> None:
        self.average.update_parameters(self.model.decoder.texture)

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The totals of critic and texture, and the texture's terms before weighting.

        Half of the segments are rebuilt and half are converted, from what the encoders hear in the speech as it is.
        What is rebuilt is given the articulation of a warped voice, since a conversion has that of another voice, too.
        Parallel speech is rebuilt from what another truly said.
        """
        weights = self.config.weights
        _, mel, known, _ = self.exchange.analyse(batch)
        said = self.exchange.by_another(batch, otherwise=mel)
        content, timbre, pitch = self._hear(mel, said, known)
        first, second = slice(len(mel) // 2), slice(len(mel) // 2, None)
        before = self.exchange.before(torch.arange(len(mel), device=mel.device))
        wrong, moved = timbre[before], self.exchange.change_register(pitch)
        frames = mel.shape[2]
        low, high = map(math.log, self.config.cutoffs)
        cutoff = math.exp(low + (high - low) * torch.rand(()).item())
        heard, source = (self.model.articulation(x, cutoff=cutoff) for x in (self.perturb(said[first]), mel[second]))
        rebuilt = self.model.decoder(content[first], timbre[first], pitch[first], frames=frames, articulation=heard)
        converted = self.model.decoder(
            content[second], wrong[second], moved[second], frames=frames, articulation=source
        )

        hear, judge = self.critic.hear, self.critic.judge
        real, copy = hear(mel[first], known[first]), hear(rebuilt, known[first])
        fillable = (known * known[before])[second]
        fakes = [
            judge(copy, timbre.latent[first]),
            judge(hear(converted, fillable), wrong.latent[second]),
        ]
        totals = {
            "critic": losses.discrimination(
                [judge(real, timbre.latent[first])], [*fakes, judge(real, wrong.latent[first])]
            )
        }
        terms = {
            "adversarial": losses.deception(fakes),
            "features": losses.feature_matching(real, copy),
            "reconstruction": losses.reconstruction(rebuilt, mel[first], known[first]),
        }
        totals["texture"] = sum(getattr(weights, name) * term for name, term in terms.items())
        return totals, {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def _hear(self, mel: Tensor, said: Tensor, known: Tensor) -> tuple[Tensor, Timbre, Pitch]:
        """Level-zero mels, by their speakers and as `said` by others → contents, the speakers' timbre, and pitch."""
        model = self.model.eval()
        model.decoder.texture.train(self.training)
        timbre = self.exchange.others(model.timbre(mel, model.content(mel).mean, known=known))
        return model.content(said).mean, timbre, model.pitch(mel)

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> Findings:
        """How far the bands of reconstructions vary from frame to frame, in units of how far the originals' do.

        `flutter` of the textured, and `flutter_of_medians` without texture: 1 would be right, and `flutter_error` is
        how far the first is from that, which is what training aims at. Silence and unknown bands weigh nothing.
        """
        model = self.released
        decoded, real = {"flutter": 0.0, "flutter_of_medians": 0.0}, 0.0
        for batch in batches:
            _, mel, known, _ = self.exchange.analyse(batch)
            content = model.content(mel).mean
            timbre, pitch = self.exchange.others(model.timbre(mel, content, known=known)), model.pitch(mel)
            real += _flutter(mel, known)
            for name, moves in (("flutter", model.articulation(mel)), ("flutter_of_medians", None)):
                decoding = model.decoder(content, timbre, pitch, frames=mel.shape[2], articulation=moves)
                decoded[name] += _flutter(decoding, known)
        figures = {name: value / max(real, 1e-6) for name, value in decoded.items()}
        figures["flutter_error"] = abs(1 - figures["flutter"])
        first = content[:1], timbre[:1], pitch[:1]
        pictures = {
            "natural": mel,
            "median": model.decoder(*first, frames=mel.shape[2]),
            "textured": model.decoder(*first, frames=mel.shape[2], articulation=model.articulation(mel[:1])),
        }
        return Findings(figures, {name: shown[0] for name, shown in pictures.items()})


def _flutter(mel: Tensor, known: Tensor) -> float:
    """Sum of the mean |change| from frame to frame of each known band of log-mels."""
    return (mel.diff(dim=2).abs().mean(dim=2) * known).sum().item()
