"""Fine-tuning a conversion model's decoder on a target speaker.

Zero-shot conversion sounds close to a new speaker but not like them. The decoder is fine-tuned on the target's
utterances for a few hundred steps, as in AdaSpeech (Chen et al. 2021, arXiv:2103.00993), with four terms:

- reconstruction: a segment of the target is decoded from its own content and the reference of all other frames. Its
  content comes from the utterance converted to a source's voice (back-translation), so that training input matches
  test input: in a conversion the content comes from the source's voice.
- replay: the same for a source, whose F0 and vocal-tract length are changed at random, so that the decoder forgets
  none of the content and learns none of the sources' voices (experience replay: Robins 1995,
  doi:10.1080/09540099550039318).
- speaker loss: a conversion of a source, synthesized, is similar to the target (YourTTS: Casanova et al. 2022,
  arXiv:2112.02418).
- content loss: the same conversion has the source's ASR features (StarGANv2-VC: Li et al. 2021, arXiv:2107.10394).

The result is the mean of the weights over the later steps (Izmailov et al. 2018, arXiv:1803.05407).

A voice that was learned with other sources than those that it converts has lost some of their words: the decoder was
held to the content of the former. `refine` gives it back, in a few steps of the last two terms on the very source.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vcvae import __version__
from vcvae.augment.mel import Perturbation, PerturbationConfig, warp, warp_valid_bands
from vcvae.convert import finetune_sources
from vcvae.convert.encoder import ReferenceMel, average_voice, with_speech
from vcvae.convert.finetune_sources import FinetuningSources, SourceSegment
from vcvae.defaults import VOICE_STEPS
from vcvae.features.f0 import F0Contour
from vcvae.features.mel import level, normalize_level
from vcvae.models.conversion.decoder import Decoder
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet
from vcvae.progress import Progress, no_progress

LEARNING_RATE = 2e-4  # of Adam; with a larger one the decoder forgets more than it learns
REPLAY_WEIGHT = 1.0  # with less of it the speaker similarity rises, and so does the word error rate
SPEAKER_WEIGHT = 1.5  # of the speaker loss, against a reconstruction loss of weight 1
CONTENT_WEIGHT = 2.0  # larger than SPEAKER_WEIGHT, which works against it
LOSS_EVERY = 2  # the last two terms cost most, so they are computed in one of so many steps, and weigh as much more
AVERAGE_AFTER = 3  # the weights are averaged from 1 / AVERAGE_AFTER of the steps on: the first are far from the last
TARGET_PIECE_FRAMES = 256  # mel frames of the pieces in which the target is reconstructed, at most: 3 s
MAX_PIECES = 32  # of the target that are used: 95 s; of more, most would never be drawn
MIN_REFERENCE_FRAMES = 20  # that must remain when a segment's own are left out; else these are kept
WARP = 0.25  # the range of the content input's frequency warping as in training: less lets the target's voice through


def finetune(
    model: DisentanglingVAE,
    references: Sequence[ReferenceMel],
    *,
    voice: Voice | None = None,
    sources: FinetuningSources | None = None,
    steps: int = VOICE_STEPS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> DisentanglingVAE:
    """A copy of the model whose decoder is fine-tuned on a target speaker.

    The result depends on the arguments and the seed alone. Bands outside a recording's `valid_bands` are not learned.

    Args:
        model: stays as it is.
        references: utterances of the target.
        voice: of all of them, by `average_voice` with the same seed, if there is one already.
        sources: utterances of other speakers, and the losses of their conversions. Without them there is only the
            reconstruction term, and its content comes from the target's own voice.
        steps: of Adam; 0 gives a plain copy.
        seed: of all random draws.
        progress: called after each step.
    """
    tuned = copy.deepcopy(model).requires_grad_(False)
    if not steps:
        return tuned
    decoder = tuned.decoder
    perturb = Perturbation(PerturbationConfig(warp=WARP), model.config.mel)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        pieces = with_speech(model, draw_pieces(references))
        speaker_net = sources.losses.speaker_net if sources and sources.losses and model.statistics else None
        target = _encode_speaker(model, pieces, bt_voices=sources.voices if sources else [], speaker_net=speaker_net)
        conversion = None
        if sources and sources.segments:
            if voice is None:
                with torch.no_grad():
                    voice = average_voice(model, references, speaker_net=speaker_net, seed=seed)
            embedding = sources.losses.speaker_embedding([piece.mel for piece in pieces])
            conversion = _Conversion(sources, voice, embedding)
        description = ""  # that of the last step with conversions

        def loss(step: int) -> tuple[Tensor, str]:
            nonlocal description
            total = reconstruction = reconstruction_loss(model, decoder, target, perturb)
            if sources and sources.utterances:
                total = total + REPLAY_WEIGHT * replay_loss(model, decoder, sources.utterances, perturb)
            if not conversion:
                description = f"reconstruction loss {reconstruction.item():.2f}"
            elif step % LOSS_EVERY == 0:
                weighted, description = _weighted_losses(decoder, conversion)
                total = total + LOSS_EVERY * weighted
            return total, description

        tuned.decoder = _descend(decoder, loss, steps, progress)
    return tuned.requires_grad_(False).eval()


def refine(
    model: DisentanglingVAE,
    voice: Voice,
    sources: FinetuningSources,
    *,
    sentences: Sequence[Tensor],
    steps: int,
    source_weight: float = 0.0,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Decoder:
    """The decoder of a voice, fine-tuned to the sources that the voice will convert; the model stays as it is.

    Only the speaker loss and the content loss of their conversions are used, so no recording of the target is needed:
    what conversions are to resemble are those of other sentences to the voice.

    Args:
        model: that the voice is for.
        voice: of the target, learned or not.
        sources: of one segment or more, with losses.
        sentences: ln-mels (1, n_mels, frames) of any speakers.
        steps: of Adam.
        source_weight: of the cosine with the sources' own voice, which the speaker loss lowers then.
        seed: of all random draws.
        progress: called after each step.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        voice = voice[torch.tensor([0])]  # a copy: gradients cannot be taken of what was made in inference mode
        with torch.no_grad():
            embedding = sources.losses.speaker_embedding([model.convert(mel, voice) for mel in sentences])
            if source_weight:  # the speaker loss is linear in the embedding that conversions are to resemble
                own = sources.losses.speaker_embedding([utterance.mel for utterance in sources.utterances])
                embedding = embedding - source_weight * own
        conversion = _Conversion(sources, voice, embedding)
        decoder = copy.deepcopy(model.decoder_for(voice))
        refined = _descend(decoder, lambda _: _weighted_losses(decoder, conversion), steps, progress)
    return refined.requires_grad_(False).eval()


def _descend(decoder: Decoder, loss: Callable[[int], tuple[Tensor, str]], steps: int, progress: Progress) -> Decoder:
    """Minimize `loss(step)`, which also says how it stands, by Adam → a copy with the mean of the later weights."""
    decoder.requires_grad_(True).train()
    averaged = AveragedModel(decoder)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=LEARNING_RATE, fused=True)
    for step in range(steps):
        value, description = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step >= steps // AVERAGE_AFTER:
            averaged.update_parameters(decoder)
        progress(step + 1, steps, description)
    return averaged.module


def finetuning_settings() -> dict[str, str | float]:
    """On which the result of `finetune` depends besides its arguments: constants, here and of sources; the version."""
    names = globals() | vars(finetune_sources)
    constants = {name: value for name, value in names.items() if name.isupper() and isinstance(value, int | float)}
    return {"version": __version__, **constants}


def reconstruction_loss(
    model: DisentanglingVAE, decoder: nn.Module, speaker: _Speaker, perturb: Perturbation
) -> Tensor:
    """L1 of a random piece, decoded from its content and the reference of all other pieces of the speaker."""
    index = int(torch.randint(len(speaker.pieces), ()))
    piece = speaker.pieces[index]
    with torch.no_grad():
        content = model.content(perturb(piece.content_mel)).sample()
    decoded = decoder(content, _leave_out(speaker, index), piece.f0, frames=piece.mel.shape[2])
    error = (decoded - piece.mel).abs().mean(dim=2)
    return (error * piece.valid_bands).sum() / piece.valid_bands.sum().clamp(min=1)


def replay_loss(
    model: DisentanglingVAE, decoder: nn.Module, sources: Sequence[ReferenceMel], perturb: Perturbation
) -> Tensor:
    """The reconstruction loss of a random source, in a voice that its warping makes."""
    source = sources[int(torch.randint(len(sources), ()))]
    speaker = _encode_speaker(model, draw_pieces([_vtlp(source, perturb.centres)]))
    return reconstruction_loss(model, decoder, speaker, perturb)


def conversion_losses(decoder: nn.Module, conversion: _Conversion) -> tuple[Tensor, Tensor]:
    """The speaker loss and the content loss of the next source segment, converted to the target and synthesized."""
    losses, voice = conversion.sources.losses, conversion.voice
    segment = conversion.next_segment()
    frames = segment.mel.shape[2]
    target_f0 = segment.f0.transfer(segment.f0.statistics(), voice.f0_statistics).within_range()
    converted = decoder(
        segment.content, voice.reference, target_f0, frames=frames, modulation=segment.modulation, postfilter=True
    )
    bands = slice(conversion.sources.model.config.encoder_bands)
    converted = converted + level(segment.mel[:, bands]) - level(converted[:, bands])
    converted_samples = losses.synthesize(converted, target_f0)
    speaker_loss = losses.speaker_loss(converted_samples, conversion.target_embedding)
    content_loss = losses.content_loss(converted_samples, segment.asr_features)
    return speaker_loss, content_loss


def _weighted_losses(decoder: nn.Module, conversion: _Conversion) -> tuple[Tensor, str]:
    """The weighted sum of the conversion losses, and what they are."""
    speaker_loss, content_loss = conversion_losses(decoder, conversion)
    description = f"speaker loss {speaker_loss.item():.2f}, content loss {content_loss.item():.2f}"
    return SPEAKER_WEIGHT * speaker_loss + CONTENT_WEIGHT * content_loss, description


def draw_pieces(utterances: Sequence[ReferenceMel]) -> list[ReferenceMel]:
    """Utterances in pieces of at most `TARGET_PIECE_FRAMES`; of more than `MAX_PIECES` pieces, as many random ones."""
    pieces = []
    for utterance in utterances:
        count = -(-utterance.mel.shape[2] // TARGET_PIECE_FRAMES)
        pieces += [ReferenceMel(mel, utterance.valid_bands) for mel in utterance.mel.tensor_split(count, dim=2)]
    if len(pieces) > MAX_PIECES:
        pieces = [pieces[i] for i in sorted(torch.randperm(len(pieces))[:MAX_PIECES].tolist())]
    return pieces


@dataclass(frozen=True)
class _Piece:
    """A piece of an utterance at level zero, and what the encoders compute from it.

    `content_mel` is the mel that its content is computed from, with the same time axis.
    """

    mel: Tensor
    valid_bands: Tensor
    f0: F0Contour
    reference: SpeakerReference
    content_mel: Tensor


@dataclass(frozen=True)
class _Speaker:
    """Pieces of the utterances of one speaker, and the reference of all of them."""

    pieces: list[_Piece]
    reference: SpeakerReference


@dataclass(frozen=True)
class _Conversion:
    """What the conversions of all steps have in common: sources, the target's voice, and its embedding by the losses.

    `order` holds the segments that are still to come before all are drawn again.
    """

    sources: FinetuningSources
    voice: Voice
    target_embedding: Tensor
    order: list[int] = field(default_factory=list)

    def next_segment(self) -> SourceSegment:
        """A random segment, each once before any comes again."""
        if not self.order:
            self.order.extend(torch.randperm(self.sources.segments).tolist())
        return self.sources.segment(self.order.pop())


@torch.no_grad()
def _encode_speaker(
    model: DisentanglingVAE,
    pieces: Sequence[ReferenceMel],
    *,
    bt_voices: Sequence[Voice] = (),
    speaker_net: SpeakerSimilarityNet | None = None,
) -> _Speaker:
    """Pieces of one speaker; their content inputs are converted to `bt_voices` in turn, if there are any.

    `speaker_net` gives a model the statistics that it takes; without it, they are unknown.
    """
    encoded = []
    for i, piece in enumerate(pieces):
        mel, _ = normalize_level(piece.mel, model.config.encoder_bands)
        encoded.append(
            _Piece(
                mel=mel,
                valid_bands=piece.valid_bands,
                f0=model.f0(mel),
                reference=model.reference(
                    mel,
                    model.content(mel).mean,
                    valid_bands=piece.valid_bands,
                    statistics=speaker_net(mel) if speaker_net else None,
                ),
                content_mel=model.convert(mel, bt_voices[i % len(bt_voices)]) if bt_voices else mel,
            )
        )
    joined = SpeakerReference.join(piece.reference for piece in encoded).average()
    return _Speaker(encoded, joined)


def _vtlp(utterance: ReferenceMel, centres: Tensor) -> ReferenceMel:
    """The same content with F0 and formants scaled by a random factor (vocal-tract length perturbation)."""
    factor = torch.exp(torch.empty(1).uniform_(-1, 1) * math.log(1 + WARP))
    mel = warp(utterance.mel, factor, centres)
    return ReferenceMel(mel, warp_valid_bands(utterance.valid_bands, factor, centres))


def _leave_out(speaker: _Speaker, index: int) -> SpeakerReference:
    """The speaker's reference (1, …) without the piece `index`, or with it, where too little would remain."""
    references = [piece.reference for piece in speaker.pieces]
    others = references[:index] + references[index + 1 :]
    if sum(reference.keys.shape[1] for reference in others) >= MIN_REFERENCE_FRAMES:
        references = others
    keys = torch.cat([reference.keys for reference in references], dim=1)
    values = torch.cat([reference.values for reference in references], dim=1)
    mask = torch.cat([reference.mask for reference in references], dim=1)
    return replace(speaker.reference, keys=keys, values=values, mask=mask)
