"""A model of one voice: the converter, and the decoder that some minutes of that voice have taught.

`vcvae.convert.finetune` learns from a clip in seconds, each time a clip is given; this learns once from all that there is of it,
and keeps what it has learned, and the voice, as a model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch

from vcvae import audio
from vcvae.convert.converter import Encoder
from vcvae.convert.finetune import MAX_EXEMPLARS, ReferenceMel, finetune
from vcvae.defaults import VOICE_STEPS
from vcvae.errors import VcvaeError, disk_errors
from vcvae.features.mel import level
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.models.hub import check_vacant

MIN_SECONDS, MAX_MINUTES = 10.0, 30.0  # seconds that are needed, and minutes of which more is left unheard
HELD_OUT = 0.1  # share of the utterances that only judge
JUDGES = 8  # utterances; more would only take time


@dataclass(frozen=True)
class Report:
    """What was references, and the mean |difference| of log-mels of `held_out` utterances that taught nothing, rebuilt."""

    seconds: float
    utterances: int
    held_out: int
    before: float
    after: float


def make(
    model: str | Path | None,
    speaker: Path,
    output: Path,
    *,
    steps: int = VOICE_STEPS,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
) -> Report:
    """Teach a converter one voice from a folder of its recordings (or one file), and save it with the voice.

    Raises:
        VcvaeError: a model in `output` already, recordings that cannot be used or too few of them.
    """
    check_vacant(output, force)
    encoder = Encoder.from_pretrained(model, device=device)
    references = _load_references(encoder, speaker)
    learned, held_out = _split(references, seed)
    tuned = finetune(encoder.model, learned, steps=steps, seed=seed)
    with torch.inference_mode():
        voice = _voice(encoder.model, learned, seed)
        before, after = (_reconstruction_l1(it, voice, held_out) for it in (encoder.model, tuned))
    rate = encoder.mel_config.frame_rate
    report = Report(sum(mel.shape[2] for mel, _ in references) / rate, len(references), len(held_out), before, after)
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        (output / "README.md").write_text(_card(report, model, steps), encoding="utf-8")
        tuned.half().save_pretrained(output)
    voice.save(output)
    return report


def _load_references(encoder: Encoder, speaker: Path) -> list[ReferenceMel]:
    """The recordings of a folder, or one file, in pieces of at most half a minute."""
    with disk_errors(speaker, "read"):
        files = audio.find(speaker) if speaker.is_dir() else [speaker]
    references, frames = [], 0
    rate = encoder.mel_config.frame_rate
    for file in files:
        references += encoder.load_references([file])
        frames = sum(mel.shape[2] for mel, _ in references)
        if frames > MAX_MINUTES * 60 * rate:
            break
    if frames < MIN_SECONDS * rate:
        raise VcvaeError(
            f"{speaker}: {frames / rate:.1f} s of speech; give at least {MIN_SECONDS:.0f} s, better some minutes."
        )
    return references


def _split(references: list[ReferenceMel], seed: int) -> tuple[list[ReferenceMel], list[ReferenceMel]]:
    """Those to learn from, and those that only judge; of fewer than four, none are spared for that."""
    order = list(range(len(references)))
    random.Random(seed).shuffle(order)
    held_out = min(JUDGES, max(1, round(HELD_OUT * len(references)))) if len(references) > 3 else 0
    return [references[i] for i in sorted(order[held_out:])], [references[i] for i in sorted(order[:held_out])]


def _voice(model: DisentanglingVAE, learned: list[ReferenceMel], seed: int) -> Voice:
    """The voice of all, with the exemplars of some: as many as conversion can look up quickly."""
    voices = [model.voice(mel, valid_bands=valid_bands) for mel, valid_bands in learned]
    general = Voice.join(voices).average()
    random.Random(seed).shuffle(voices)
    kept, count = [], 0
    for voice in voices:
        if count < MAX_EXEMPLARS:
            kept.append(voice)
            count += voice.reference.keys.shape[1]
    exemplars = Voice.join(kept).average().reference
    reference = type(exemplars)(general.reference.embedding, exemplars.keys, exemplars.values, exemplars.mask)
    return Voice(reference, general.f0_statistics)


def _reconstruction_l1(model: DisentanglingVAE, voice: Voice, held_out: list[ReferenceMel]) -> float:
    """Mean |difference| between utterances and what the model makes of their words in the voice; NaN for none."""
    bands, missed, weight = model.config.encoder_bands, 0.0, 0.0
    for mel, valid_bands in held_out:
        mel = mel - level(mel[:, :bands])
        f0 = model.f0(mel)
        decoded = model.decoder(model.content(mel).mean, voice.reference, f0, frames=mel.shape[2])
        missed += ((decoded - mel).abs().sum(dim=2) * valid_bands).sum().item()
        weight += valid_bands.sum().item() * mel.shape[2]
    return missed / weight if weight else float("nan")


def _card(report: Report, model: str | Path | None, steps: int) -> str:
    return (
        "---\nlibrary_name: vcvae\npipeline_tag: audio-to-audio\n---\n"
        "# A converter to one voice\n\n"
        f"Made by `vcvae finetune` from {model or 'the model that ships'} and {report.seconds / 60:.1f} minutes of speech "
        f"({report.utterances} pieces), {steps} steps. `vcvae convert src.wav --model` this folder needs no target.\n\n"
        + (
            f"Mean |difference| of log-mels, {report.held_out} pieces that taught nothing, rebuilt: "
            f"{report.before:.3f} before, {report.after:.3f} after.\n\n"
            if report.held_out
            else ""
        )
        + "A voice is a person's: whose it is, and that they agreed, is for the author to add here.\n"
    )
