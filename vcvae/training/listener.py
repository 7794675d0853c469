"""Making a listener: an ECAPA-TDNN is thinned, and taught to hear in mels whom it heard in what they sound like.

What is left of it by thinning alone is learned on from the whole one, of natural speech and of conversions
(distillation: Hinton et al. 2015, arXiv:1503.02531).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import soxr
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.evaluate.speakers import equal_error_rate
from vcvae.mel import MelSpectrogram
from vcvae.models.disentangling import DisentanglingVAE
from vcvae.models.ecapa import SAMPLE_RATE, EcapaTDNN, filterbank, load_ecapa
from vcvae.models.listener import AROUND, Listener, ListenerConfig
from vcvae.training.average import average
from vcvae.training.exchange import Exchange
from vcvae.training.invention import Invention, InventionConfig
from vcvae.training.run import OptimizerConfig, RunConfig, Speed
from vcvae.training.task import Batch, Findings, Task
from vcvae.training.thinning import least_squares, thin
from vcvae.vocoder import Vocoder, load_vocoder


class ListenerWeights(Config):
    """The weight of each term in the sum that the listener descends."""

    disagreement: float = Field(1.0, ge=0, description="1 less the cosine with what the teacher says")
    geometry: float = Field(0.5, ge=0, description="squared error of the cosines between the batch's voices")


class ListenerRun(RunConfig):
    """A run that makes a listener.

    The teacher is slow, so what it has said of the last segments is remembered, and heard again many times (experience
    replay: Lin 1992, doi:10.1007/BF00992699).
    """

    task: Literal["listener"] = Field("listener", description="what is trained: listener")
    teacher: str | None = Field(
        None, description="folder or repository of the whole network; by default SpeechBrain's of VoxCeleb"
    )
    converter: str = Field(description="folder or repository of the converter whose conversions it is to hear, too")
    vocoder: str = Field("neural", description="by which the teacher hears what is no recording")
    model: ListenerConfig = ListenerConfig()
    weights: ListenerWeights = ListenerWeights()
    conversions: float = Field(0.45, ge=0, le=1, description="share of the segments that are heard converted")
    invention: InventionConfig = InventionConfig()
    memory: int = Field(2048, gt=0, description="segments, the last ones, of which is remembered what was said")
    recalled: int = Field(32, gt=1, description="of these in a step, some frames of each")
    noise: float = Field(0.3, ge=0, description="nats; up to so much is added to each frame and band")
    batch_speakers: int = Field(2, gt=1, description="speakers that the teacher hears in a step of one process")
    segment_frames: int = Field(256, gt=15, description="mel frames of a segment: 3 s")
    speeds: tuple[Speed, ...] = Field(
        (0.89, 1.0, 1.125), description="each speaker at each of these speeds is a speaker"
    )
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=6e-4, warmup=80)
    average: float = Field(0.99, ge=0, lt=1, description="decay of the averaged weights, which are what is released")
    best_by: Literal["highest likeness"] = Field(
        "highest likeness", description="the figure of a validation that says which"
    )


class ListenerTask(Task):
    """The listener and its running average, what the teacher has said, and what makes conversions for both."""

    def __init__(self, config: ListenerRun, speakers: int) -> None:
        super().__init__(config, speakers)
        converter = DisentanglingVAE.from_pretrained(config.converter)
        sizes = converter.config
        config.model.mel.require_equal(sizes.mel, ours="the listener", theirs="the converter")
        vocoder = load_vocoder(config.vocoder, sizes.mel).for_estimates()
        # In a tuple, and so in no checkpoint: they are large, and do not change.
        self.given = converter, vocoder, load_ecapa(config.teacher)
        self.exchange = Exchange(sizes, config.segments)
        self.invent = Invention(config.invention, sizes.mel, config.segments)
        self.model = Listener(config.model)
        self.average = average(self.model, config.average)
        heard = torch.zeros(config.memory, sizes.mel.n_mels, config.segment_frames, dtype=torch.float16)
        self.register_buffer("heard", heard)
        self.register_buffer("said", torch.zeros(config.memory, config.model.latent))

    @torch.no_grad()
    def begin(self, batches: Iterator[Batch]) -> None:
        """What of the teacher can be had without learning: its filter bank by least squares, and main directions."""
        spectrogram, inputs, outputs = MelSpectrogram(self.config.model.mel), [], []
        for batch in batches:
            for samples in batch["samples"].flatten(0, 1).cpu():
                bands = self._bands(samples)
                mel = self.model.retimed(spectrogram(samples[None]))
                around = mel.unfold(2, 2 * AROUND + 1, 1)[0, :, : bands.shape[2]]  # (n_mels, frames, around)
                inputs.append(around.transpose(0, 1).flatten(1))
                outputs.append(bands[0, :, : around.shape[1]].T)
        weight, bias = (x.to(self.model.bands.weight) for x in least_squares(torch.cat(inputs), torch.cat(outputs)))
        self.model.bands.weight.copy_(weight.unflatten(1, self.model.bands.weight.shape[1:]))
        self.model.bands.bias.copy_(bias)
        *_, teacher = self._given(self.model.bands.weight.device)
        thin(teacher, self.model.network, (x.T[None].to(weight) for x in outputs))
        self.average.module.load_state_dict(self.model.state_dict())

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"listener": list(self.model.parameters())}

    @property
    def released(self) -> Listener:
        """What an export keeps: the averaged listener."""
        return self.average.module

    def after_step(self) -> None:
        self.average.update_parameters(self.model)

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The total to descend, and its terms before weighting."""
        self.model.eval()  # its normalizations have seen more voices than are here
        mel, label = self._ask(batch)
        places = (step * len(mel) + torch.arange(len(mel), device=mel.device)) % len(self.heard)
        self.heard[places], self.said[places] = mel.half(), label
        recalled = torch.randint(min(len(self.heard), (step + 1) * len(mel)), (self.config.recalled,))
        said = self.said[recalled]
        latents = self.model(self._in_part(self.heard[recalled].float())).float()
        terms = {
            "disagreement": (1 - (latents * said).sum(dim=1)).mean(),
            "geometry": (latents @ latents.T - said @ said.T).square().mean(),
        }
        total = sum(getattr(self.config.weights, name) * term for name, term in terms.items())
        return {"listener": total}, {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def _ask(self, batch: Batch, *, conversions: float | None = None) -> tuple[Tensor, Tensor]:
        """Level-zero mels (batch, n_mels, frames), natural, invented or converted, and the teacher's unit vectors."""
        share = self.config.conversions if conversions is None else conversions
        samples, mel, known, _ = self.exchange.analyse(batch)
        mel, known, made = (
            self.invent(mel, known) if self.training else (mel, known, known.new_zeros(len(mel), dtype=torch.bool))
        )
        converted = torch.rand(len(mel)).to(mel.device) < share
        converter, vocoder, teacher = self._given(mel.device)
        if converted.any():
            content = converter.content(mel).mean
            others = self.exchange.others(converter.timbre(mel, content, known=known))
            before = self.exchange.before(torch.arange(len(mel), device=mel.device))
            said = converter.decoder(
                content,
                others[before],
                self.exchange.change_register(converter.pitch(mel)),
                frames=mel.shape[2],
                articulation=converter.articulation(mel),
            )
            mel = torch.where(converted[:, None, None], said, mel)
        spoken = torch.where((made | converted)[:, None], vocoder(mel)[:, : samples.shape[1]], samples)
        with torch.autocast(mel.device.type, enabled=False):
            label = torch.cat([F.normalize(teacher(self._bands(x)), dim=1) for x in spoken])
        return mel, label

    def _given(self, device: torch.device) -> tuple[DisentanglingVAE, Vocoder, EcapaTDNN]:
        converter, vocoder, teacher = (module.to(device).eval() for module in self.given)
        return converter, vocoder, teacher

    def _bands(self, samples: Tensor) -> Tensor:
        """Samples (samples,) at the mel's rate → what the teacher hears of them, (1, bands, frames)."""
        heard = soxr.resample(samples.float().cpu().numpy(), self.config.model.mel.sample_rate, SAMPLE_RATE)
        return filterbank(torch.from_numpy(heard)[None].to(samples.device))

    def _in_part(self, mel: Tensor) -> Tensor:
        """Some of the frames of each (batch, n_mels, frames), as many of all, and noise: it is the same voice."""
        frames = mel.shape[2]
        length = int(torch.randint(frames // 2, frames + 1, ()))
        start = torch.randint(frames - length + 1, (len(mel), 1)).to(mel.device)
        index = (start + torch.arange(length, device=mel.device))[:, None].expand(-1, mel.shape[1], -1)
        noise = self.config.noise * torch.rand(len(mel), 1, 1, device=mel.device)
        return mel.gather(2, index) + noise * torch.randn_like(mel[:, :, :length])

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> Findings:
        """How well it agrees with its teacher on unseen speakers, and whether it tells them apart.

        `likeness_of_natural` and `likeness_of_converted` are mean cosines with what the teacher says, `likeness` the
        mean of the two; `equal_error_rate` is of telling the natural segments' speakers apart.
        """
        found, voices, speakers = {}, [], []
        for name, share in (("natural", 0.0), ("converted", 1.0)):
            cosines = []
            for batch in batches:
                mel, label = self._ask(batch, conversions=share)
                latents = self.released(mel)
                cosines.append((latents * label).sum(dim=1))
                if not share:
                    voices.append(latents)
                    speakers.append(batch["speaker"].repeat(self.config.segments))
            found[f"likeness_of_{name}"] = torch.cat(cosines).mean().item()
        found["likeness"] = sum(found.values()) / 2
        similarity = torch.cat(voices) @ torch.cat(voices).T
        who = torch.cat(speakers)
        same, once = who[:, None] == who, torch.ones_like(similarity).triu(1) > 0
        found["equal_error_rate"] = equal_error_rate(similarity[same & once], similarity[~same & once])
        return Findings(found, {"heard last": mel[0]})
