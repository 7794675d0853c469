"""Training the neural vocoder: first with a spectral loss, then also with adversarial losses.

In use it synthesizes conversions, of which there are no recordings. For these the target is the output of a larger
vocoder, the teacher (distillation: Hinton et al. 2015, arXiv:1503.02531).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vcvae.augment.waveform import amplify
from vcvae.config import Config, DecibelRange
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour, yin
from vcvae.features.mel import MelSpectrogram, valid_band_mask
from vcvae.features.stft import low_pass
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.models.hub import PretrainedModel
from vcvae.training import losses
from vcvae.training.config import MAX_STEPS, OptimizerConfig, RunConfig
from vcvae.training.discriminators.waveform import WaveformDiscriminatorConfig, WaveformDiscriminators
from vcvae.training.ema import ema
from vcvae.training.segments import segment_major
from vcvae.training.spectral import MultiResolutionSpectrum
from vcvae.training.task import Batch, EmaTask, ValidationResult
from vcvae.vocoder import load_vocoder
from vcvae.vocoder.source_filter import SourceFilterVocoder, SourceFilterVocoderConfig


class VocoderWeights(Config):
    """Weights of the generator's loss terms."""

    spectrum: float = Field(1.0, ge=0, le=1e6, description="L1 distance of log spectra at several resolutions")
    f0: float = Field(0.1, ge=0, le=1e6, description="cross-entropy of the F0 classifier to YIN, nats")
    f0_l1: float = Field(1.0, ge=0, le=1e6, description="L1 distance of its F0 contour to YIN's, octaves")
    adversarial: float = Field(0.1, ge=0, le=1e6, description="LSGAN loss, mean over the discriminators")
    feature_matching: float = Field(
        1.0, ge=0, le=1e6, description="relative L1 of discriminator features, mean over layers"
    )


class VocoderConfig(RunConfig):
    """A run that trains a vocoder."""

    task: Literal["vocoder"] = Field("vocoder", description="name of the training task: vocoder")
    model: SourceFilterVocoderConfig = SourceFilterVocoderConfig()
    discriminators: WaveformDiscriminatorConfig = WaveformDiscriminatorConfig()
    weights: VocoderWeights = VocoderWeights()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-4, betas=(0.8, 0.99))
    segment_frames: int = Field(32, gt=15, le=8192, description="mel frames per segment; 32 are 0.37 s")
    init_from: str | None = Field(None, description="folder or repository of a vocoder to start from")
    converter: str | None = Field(
        None, description="folder or repository of a conversion model whose conversions are synthesized, too"
    )
    teacher: str | None = Field(
        None, description="vocoder whose output is the target for these, as for --vocoder: hifigan:PATH"
    )
    conversion_share: float = Field(0.5, ge=0, lt=1, description="share of a batch that is converted")
    adversarial_from: int = Field(1000, ge=0, le=MAX_STEPS, description="first step with discriminators")
    discriminator_lr_scale: float = Field(
        4.0, gt=0, le=1000, description="learning rate of the discriminators, in units of the generator's"
    )
    gain: DecibelRange = Field((-20.0, 3.0), description="dB; range of each segment's random gain")
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the EMA of the weights, which is what is exported"
    )
    best_by: Literal["lowest spectrum", "lowest mel", "lowest f0_cents", "lowest voicing_error"] = Field(
        "lowest spectrum", description="validation figure by which checkpoints are compared"
    )

    @model_validator(mode="after")
    def _holds_together(self) -> VocoderConfig:
        if max(self.discriminators.windows) // 2 >= self.segment_frames * self.model.mel.hop:
            raise ValueError("the discriminators' windows must be shorter than twice a segment")
        if bool(self.converter) != bool(self.teacher):
            raise ValueError(
                "converter and teacher must be given together: the teacher synthesizes the converter's mels"
            )
        return self


class VocoderTask(EmaTask):
    """The vocoder (generator), its EMA, the discriminators, and the losses."""

    def __init__(self, config: VocoderConfig, speakers: int) -> None:
        super().__init__(config, speakers)
        mel = config.model.mel
        self.spectrogram = MelSpectrogram(mel)
        self.model = SourceFilterVocoder(config.model)
        if config.init_from:
            self.model.load_state_dict(self._initial_generator(config.init_from).state_dict())
        self.converter = self._fetch(DisentanglingVAE, config.converter) if config.converter else None
        self.teacher = load_vocoder(config.teacher, mel).requires_grad_(False) if config.teacher else None
        self.ema = ema(self.model, config.ema_decay)
        self.discriminators = WaveformDiscriminators(config.discriminators)
        self.spectra = MultiResolutionSpectrum(mel.sample_rate)

    def _fetch(self, kind: type[PretrainedModel], source: str) -> PretrainedModel:
        """A saved model, frozen.

        Raises:
            VcvaeError: there is none, or it is for another mel.
        """
        model = kind.from_pretrained(source).requires_grad_(False)
        model.config.mel.require_equal(self.config.model.mel, ours=source, theirs="the configuration")
        return model

    def _initial_generator(self, source: str) -> SourceFilterVocoder:
        """The vocoder whose weights a run starts from; its post-processing may differ from the configuration's.

        Raises:
            VcvaeError: there is none, or it is for another mel, or of another size.
        """
        model = self._fetch(SourceFilterVocoder, source)
        post_processing = {"ground_truth", "predicted"}
        if model.config.model_dump(exclude=post_processing) != self.config.model.model_dump(exclude=post_processing):
            raise VcvaeError(f"init_from: {source} has other sizes than 'model'; give those of its config.json.")
        return model

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return {
            "discriminator": list(self.discriminators.parameters()),
            "generator": list(self.model.parameters()),
        }

    def lr_scale(self, group: str) -> float:
        """Discriminators learn faster, as by the two time-scale rule of Heusel et al. 2017 (arXiv:1706.08500)."""
        return self.config.discriminator_lr_scale if group == "discriminator" else 1.0

    def forward(self, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The totals of discriminators and generator, and the generator's loss terms before weighting."""
        c = self.config
        # The discriminators are nearly all of the work; only they use the run's precision.
        with torch.autocast(batch["samples"].device.type, enabled=False):
            target, generated, bandwidth, terms = self._generate(batch)
        totals = {}
        if step >= c.adversarial_from:
            # Both at the target's level, so that quiet speech counts as much as loud speech.
            level = target.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-4)
            real = self.discriminators(low_pass(target / level, bandwidth, c.model.mel.sample_rate))
            fake = self.discriminators(low_pass(generated / level, bandwidth, c.model.mel.sample_rate))
            totals["discriminator"] = losses.discriminator_loss(real.scores, fake.scores)
            terms["adversarial"] = losses.generator_loss(fake.scores)
            terms["feature_matching"] = losses.feature_matching(real.features, fake.features)
        totals["generator"] = sum(getattr(c.weights, name) * term for name, term in terms.items())
        return totals, {name: term.detach() for name, term in terms.items()}

    def _generate(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Synthesize a batch, of which a share is converted first.

        Returns target and generated waveforms (batch, samples), the bandwidth in Hz up to which they are compared
        (batch,), and the loss terms that need no discriminators. The batch is segment-major, as in `SegmentBatch`.
        """
        c = self.config
        target = amplify(segment_major(batch["samples"]), c.gain)
        recorded_bandwidth = segment_major(batch["bandwidth"])
        # Within the range of the mel the silence above a recording's bandwidth is compared, too: the mel shows it.
        bandwidth = recorded_bandwidth.clamp(min=c.model.mel.f_max)
        mel = self.spectrogram(target)
        f0_scores, voiced = self.model.f0_logits(mel)
        predicted_f0 = self.model.f0.decode(f0_scores, voiced)
        measured_f0 = yin(target, sample_rate=c.model.mel.sample_rate, hop=c.model.mel.hop)
        count = int(c.conversion_share * len(mel)) if self.converter else 0
        f0 = predicted_f0.detach()
        if count:
            valid_bands = valid_band_mask(recorded_bandwidth, c.model.mel)
            converted, target_f0, teacher_audio = self._convert(mel, valid_bands, count)
            mel = torch.cat([converted, mel[count:]])
            f0 = F0Contour.join([target_f0, f0[count:]])
            target = torch.cat([teacher_audio, target[count:]])
            full_bandwidth = torch.full_like(bandwidth[:count], c.model.mel.sample_rate / 2)
            bandwidth = torch.cat([full_bandwidth, bandwidth[count:]])
        generated = self.model.synthesize_for_training(mel, f0)
        terms = {
            "spectrum": self.spectra.distance(self.spectra(target), self.spectra(generated), bandwidth),
            "f0": losses.f0(f0_scores, voiced, measured_f0),
            "f0_l1": losses.f0_l1(predicted_f0, measured_f0),
        }
        return target, generated, bandwidth, terms

    @torch.no_grad()
    def _convert(self, mel: Tensor, valid_bands: Tensor, count: int) -> tuple[Tensor, F0Contour, Tensor]:
        """Convert the first `count` segments to the previous speaker of the batch.

        Log-mels (batch, n_mels, frames) and valid bands (batch, n_mels), segment-major. Returns the converted mels,
        their F0 contours, and the teacher's synthesis of them (count, samples).
        """
        converter = self.converter.eval()
        speakers = len(mel) // self.config.segments
        segment_voices = converter.voice(mel, valid_bands=valid_bands)
        speaker_voices = Voice.join(segment_voices[k::speakers].average() for k in range(speakers))
        row_speakers = torch.arange(count, device=mel.device) % speakers
        target_voice = speaker_voices[row_speakers - 1]
        target_f0 = converter.target_f0(mel[:count], target_voice)
        converted = converter.convert(mel[:count], target_voice, target_f0=target_f0)
        # Half precision takes half the time, and its error is far below the generator's.
        with torch.autocast(mel.device.type, torch.bfloat16):
            teacher_audio = self.teacher.eval()(converted)
        return converted, target_f0, teacher_audio.float()

    @torch.no_grad()
    def validate(self, batches: list[Batch]) -> ValidationResult:
        """Copy synthesis of unseen speakers: spectral distance, mel L1, F0 error in cents, and voicing error."""
        c = self.config.model.mel
        values = {"spectrum": [], "mel": [], "f0_cents": [], "voicing_error": []}
        for batch in batches:
            recorded = segment_major(batch["samples"])
            bandwidth = segment_major(batch["bandwidth"]).clamp(min=c.f_max)
            mel = self.spectrogram(recorded)
            copy = self.released(mel)
            copy_mel = self.spectrogram(copy)
            recorded_f0 = yin(recorded, sample_rate=c.sample_rate, hop=c.hop)
            copy_f0 = yin(copy, sample_rate=c.sample_rate, hop=c.hop)
            both_voiced = (recorded_f0.voicing * copy_f0.voicing) > 0.5
            octaves = (recorded_f0.log_f0 - copy_f0.log_f0)[both_voiced].abs()
            values["spectrum"].append(self.spectra.distance(self.spectra(recorded), self.spectra(copy), bandwidth))
            values["mel"].append((copy_mel - mel).abs().mean())
            values["f0_cents"].append(1200 * octaves.median())
            values["voicing_error"].append((recorded_f0.voicing != copy_f0.voicing).float().mean())
        figures = {name: torch.stack(x).nanmean().item() for name, x in values.items()}
        return ValidationResult(
            figures, {"recorded": mel[0], "copy": copy_mel[0]}, {"recorded": recorded[0], "copy": copy[0]}
        )
