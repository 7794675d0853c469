"""Fine-tuning a conversion model's decoder on a target speaker.

Zero-shot conversion sounds close to a new speaker but not like them. The decoder is fine-tuned on the target's
utterances for a few hundred steps, as in AdaSpeech (Chen et al. 2021, arXiv:2103.00993), with four terms:

- reconstruction: a segment of the target is decoded from its own content and the reference of all other frames. Its
  content comes from the utterance converted to a source's voice (back-translation), so that training input matches
  test input: in a conversion the content comes from the source's voice.
- replay: the same for a source utterance, whose F0 and vocal-tract length are changed at random, so that the decoder
  forgets none of the content and learns none of the sources' voices (experience replay: Robins 1995,
  doi:10.1080/09540099550039318).
- speaker loss: a conversion of a source, synthesized, is similar to the target (YourTTS: Casanova et al. 2022,
  arXiv:2112.02418).
- content loss: the same conversion has the source's ASR features (StarGANv2-VC: Li et al. 2021, arXiv:2107.10394).

The result is the mean of the weights over the later steps (Izmailov et al. 2018, arXiv:1803.05407).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vcvae import __version__
from vcvae.augment.mel import Perturbation, PerturbationConfig, warp, warp_valid_bands
from vcvae.convert.encoder import MAX_EXEMPLARS, ReferenceMel, average_voice
from vcvae.convert.losses import ConversionLosses
from vcvae.defaults import VOICE_STEPS
from vcvae.features.f0 import F0Contour
from vcvae.features.mel import level, normalize_level
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import SpeakerReference, Voice
from vcvae.progress import Progress, no_progress

LEARNING_RATE = 2e-4  # of Adam; with a larger one the decoder forgets more than it learns
REPLAY_WEIGHT = 1.0  # with less of it the speaker similarity rises, and so does the word error rate
SPEAKER_WEIGHT = 1.5  # of the speaker loss, against a reconstruction loss of weight 1
CONTENT_WEIGHT = 2.0  # larger than SPEAKER_WEIGHT, which works against it
LOSS_EVERY = 2  # the last two terms cost most, so they are computed in one of so many steps, and weigh as much more
AVERAGE_AFTER = 3  # the weights are averaged from 1 / AVERAGE_AFTER of the steps on: the first are far from the last
SEGMENT_FRAMES = 256  # mel frames of a training segment: 3 s
MIN_EXEMPLARS = 20  # reference frames that must remain when a segment's own are left out; else these are kept
WARP = 0.25  # the range of the content input's frequency warping as in training: less lets the target's voice through


def finetune(
    model: DisentanglingVAE,
    references: Sequence[ReferenceMel],
    *,
    sources: Sequence[ReferenceMel] = (),
    losses: ConversionLosses | None = None,
    steps: int = VOICE_STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> DisentanglingVAE:
    """A copy of the model whose decoder is fine-tuned on a target speaker.

    The result depends on the arguments and the seed alone. Bands outside a recording's `valid_bands` are not learned.

    Args:
        model: stays as it is.
        references: utterances of the target.
        sources: utterances of other speakers, best the very ones to convert. Without them there is only the
            reconstruction term, and its content comes from the target's own voice.
        losses: for the speaker and the content loss; without them these two terms are left out.
        steps: of Adam; 0 gives a plain copy.
        seed: of all random draws.
        progress: called after each step.
    """
    tuned = copy.deepcopy(model).requires_grad_(False)
    if not steps:
        return tuned
    progress = progress or no_progress
    decoder = tuned.decoder.requires_grad_(True).train()
    averaged_decoder = AveragedModel(decoder)
    perturb = Perturbation(PerturbationConfig(warp=WARP), model.config.mel)
    with torch.no_grad():
        source_voices = [model.voice(source.mel, valid_bands=source.valid_bands) for source in sources]
        target = _encode_speaker(model, references, bt_voices=source_voices)
        conversion = _Conversion.to_target(model, losses, references) if losses and sources else None
    optimizer = torch.optim.Adam(decoder.parameters(), lr=LEARNING_RATE)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        for step in range(steps):
            reconstruction = reconstruction_loss(model, decoder, target, perturb)
            loss = reconstruction
            if sources:
                loss = loss + REPLAY_WEIGHT * replay_loss(model, decoder, sources, perturb)
            if conversion and step % LOSS_EVERY == 0:
                speaker_loss, content_loss = conversion_losses(model, decoder, conversion, sources)
                loss = loss + LOSS_EVERY * (SPEAKER_WEIGHT * speaker_loss + CONTENT_WEIGHT * content_loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step >= steps // AVERAGE_AFTER:
                averaged_decoder.update_parameters(decoder)
            if conversion:
                description = f"speaker loss {speaker_loss.item():.2f}, content loss {content_loss.item():.2f}"
            else:
                description = f"reconstruction loss {reconstruction.item():.2f}"
            progress(step + 1, steps, description)
    tuned.decoder = averaged_decoder.module
    return tuned.requires_grad_(False).eval()


def finetuning_settings() -> dict[str, str | float]:
    """All on which the result of `finetune` depends besides its arguments: the constants above, and the version."""
    constants = {name: value for name, value in globals().items() if name.isupper() and isinstance(value, int | float)}
    return {"version": __version__, **constants}


def reconstruction_loss(
    model: DisentanglingVAE, decoder: nn.Module, speaker: _Speaker, perturb: Perturbation
) -> Tensor:
    """L1 of a random segment, decoded from its content and the reference of all other frames of the speaker."""
    lengths = torch.tensor([float(utterance.mel.shape[2]) for utterance in speaker.utterances])
    index = int(torch.multinomial(lengths, 1))
    utterance = speaker.utterances[index]
    start, frames = _draw_segment(utterance.mel)
    mel = utterance.mel[:, :, start : start + frames]
    content_mel = utterance.content_mel[:, :, start : start + frames]
    f0 = utterance.f0[:, start // 2 : (start + frames + 1) // 2]
    with torch.no_grad():
        content = model.content(perturb(content_mel)).sample()
    reference = _leave_out(speaker, index, start // 4, content.shape[2])
    error = (decoder(content, reference, f0, frames=frames) - mel).abs().mean(dim=2)
    return (error * utterance.valid_bands).sum() / utterance.valid_bands.sum().clamp(min=1)


def replay_loss(
    model: DisentanglingVAE, decoder: nn.Module, sources: Sequence[ReferenceMel], perturb: Perturbation
) -> Tensor:
    """The reconstruction loss of a random source, in a voice that its warping makes."""
    source = sources[int(torch.randint(len(sources), ()))]
    speaker = _encode_speaker(model, [_vtlp(source, perturb.centres)])
    return reconstruction_loss(model, decoder, speaker, perturb)


def conversion_losses(
    model: DisentanglingVAE, decoder: nn.Module, conversion: _Conversion, sources: Sequence[ReferenceMel]
) -> tuple[Tensor, Tensor]:
    """The speaker loss and the content loss of a random source segment, converted to the target and synthesized."""
    losses, voice = conversion.losses, conversion.voice
    source_mel = sources[int(torch.randint(len(sources), ()))].mel
    start, frames = _draw_segment(source_mel)
    source_mel = source_mel[:, :, start : start + frames]
    with torch.no_grad():
        source_f0 = model.f0(source_mel)
        target_f0 = model.target_f0(source_mel, voice)
        content = model.content(source_mel).mean
        modulation = model.modulation(source_mel)
        source_samples = losses.synthesize(source_mel, source_f0)
    converted = decoder(content, voice.reference, target_f0, frames=frames, modulation=modulation, postfilter=True)
    bands = slice(model.config.encoder_bands)
    converted = converted + level(source_mel[:, bands]) - level(converted[:, bands])
    converted_samples = losses.synthesize(converted, target_f0)
    speaker_loss = losses.speaker_loss(converted_samples, conversion.target_embedding)
    content_loss = losses.content_loss(converted_samples, source_samples)
    return speaker_loss, content_loss


@dataclass(frozen=True)
class _Utterance:
    """An utterance at level zero, and what the encoders compute from it.

    `content_mel` is the mel that its content is computed from, with the same time axis.
    """

    mel: Tensor
    valid_bands: Tensor
    f0: F0Contour
    reference: SpeakerReference
    content_mel: Tensor


@dataclass(frozen=True)
class _Speaker:
    """The utterances of one speaker, and the mean of their speaker embeddings, (1, speaker_latent)."""

    utterances: list[_Utterance]
    embedding: Tensor


@dataclass(frozen=True)
class _Conversion:
    """What the conversions of all steps have in common: the target's voice, and its embedding by the losses."""

    losses: ConversionLosses
    voice: Voice
    target_embedding: Tensor

    @classmethod
    def to_target(
        cls, model: DisentanglingVAE, losses: ConversionLosses, references: Sequence[ReferenceMel]
    ) -> _Conversion:
        embedding = losses.speaker_embedding([reference.mel for reference in references])
        return cls(losses, average_voice(model, references), embedding)


@torch.no_grad()
def _encode_speaker(
    model: DisentanglingVAE, references: Sequence[ReferenceMel], *, bt_voices: Sequence[Voice] = ()
) -> _Speaker:
    """Utterances of one speaker; their content inputs are converted to `bt_voices` in turn, if there are any."""
    utterances = []
    for i, reference in enumerate(references):
        mel, _ = normalize_level(reference.mel, model.config.encoder_bands)
        utterances.append(
            _Utterance(
                mel=mel,
                valid_bands=reference.valid_bands,
                f0=model.f0(mel),
                reference=model.reference(mel, model.content(mel).mean, valid_bands=reference.valid_bands),
                content_mel=model.convert(mel, bt_voices[i % len(bt_voices)]) if bt_voices else mel,
            )
        )
    joined = SpeakerReference.join(utterance.reference for utterance in utterances).average()
    return _Speaker(utterances, joined.embedding)


def _draw_segment(mel: Tensor) -> tuple[int, int]:
    """The start, a multiple of 4, and the length of a random segment of a mel (1, n_mels, frames), in frames."""
    frames = min(SEGMENT_FRAMES, mel.shape[2])
    return 4 * int(torch.randint((mel.shape[2] - frames) // 4 + 1, ())), frames


def _vtlp(utterance: ReferenceMel, centres: Tensor) -> ReferenceMel:
    """The same content with F0 and formants scaled by a random factor (vocal-tract length perturbation)."""
    factor = torch.exp(torch.empty(1).uniform_(-1, 1) * math.log(1 + WARP))
    mel = warp(utterance.mel, factor, centres)
    return ReferenceMel(mel, warp_valid_bands(utterance.valid_bands, factor, centres))


def _leave_out(speaker: _Speaker, index: int, start: int, count: int) -> SpeakerReference:
    """The speaker's reference (1, …) without `count` frames from `start` on of the utterance `index`.

    Where there are more than `MAX_EXEMPLARS` frames, it holds those of this and of random other utterances.
    """
    references = [utterance.reference for utterance in speaker.utterances]
    kept = [torch.ones(reference.keys.shape[1], dtype=torch.bool) for reference in references]
    if sum(map(len, kept)) > MAX_EXEMPLARS:
        room = MAX_EXEMPLARS
        for i in torch.randperm(len(kept)).tolist():
            kept[i][:] = i == index or room > 0
            room -= len(kept[i])
    kept[index][start : start + count] = False
    if sum(int(mask.sum()) for mask in kept) < MIN_EXEMPLARS:
        kept[index][:] = True
    keys = torch.cat([reference.keys[:, keep] for reference, keep in zip(references, kept, strict=True)], dim=1)
    values = torch.cat([reference.values[:, keep] for reference, keep in zip(references, kept, strict=True)], dim=1)
    mask = torch.cat([reference.mask[:, keep] for reference, keep in zip(references, kept, strict=True)], dim=1)
    return SpeakerReference(speaker.embedding, keys, values, mask)
