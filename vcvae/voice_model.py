"""A model of one voice: the converter, and the decoder that some minutes of that voice have taught.

`vcvae.adapt` learns from a clip in seconds, each time a clip is given; this learns once from all that there is of it,
and keeps what it has learned, and the voice, as a model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch

from vcvae import audio
from vcvae.adapt import MOST, Heard, adapt
from vcvae.convert import Encoder
from vcvae.defaults import VOICE_STEPS
from vcvae.errors import VcvaeError, disk_errors
from vcvae.models.disentangling import DisentanglingVAE
from vcvae.models.pretrained import check_vacant
from vcvae.models.voice import Voice, level

LEAST, MOST_MINUTES = 10.0, 30.0  # seconds that are needed, and minutes of which more is left unheard
HELD_OUT = 0.1  # share of the utterances that only judge
JUDGES = 8  # utterances; more would only take time


@dataclass(frozen=True)
class Report:
    """What was heard, and the mean |difference| of log-mels of `judges` utterances that taught nothing, rebuilt."""

    seconds: float
    utterances: int
    judges: int
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
    heard = _listen(encoder, speaker)
    learned, judges = _split(heard, seed)
    tuned = adapt(encoder.model, learned, steps=steps, seed=seed)
    with torch.inference_mode():
        voice = _voice(encoder.model, learned, seed)
        before, after = (_miss(it, voice, judges) for it in (encoder.model, tuned))
    rate = encoder.mel_config.frame_rate
    report = Report(sum(mel.shape[2] for mel, _ in heard) / rate, len(heard), len(judges), before, after)
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        (output / "README.md").write_text(_card(report, model, steps), encoding="utf-8")
        tuned.half().save_pretrained(output)
    voice.save(output)
    return report


def _listen(encoder: Encoder, speaker: Path) -> list[Heard]:
    """The recordings of a folder, or one file, in pieces of at most half a minute."""
    with disk_errors(speaker, "read"):
        files = audio.find(speaker) if speaker.is_dir() else [speaker]
    heard, frames = [], 0
    rate = encoder.mel_config.frame_rate
    for file in files:
        heard += encoder.listen([file])
        frames = sum(mel.shape[2] for mel, _ in heard)
        if frames > MOST_MINUTES * 60 * rate:
            break
    if frames < LEAST * rate:
        raise VcvaeError(
            f"{speaker}: {frames / rate:.1f} s of speech; give at least {LEAST:.0f} s, better some minutes."
        )
    return heard


def _split(heard: list[Heard], seed: int) -> tuple[list[Heard], list[Heard]]:
    """Those to learn from, and those that only judge; of fewer than four, none are spared for that."""
    order = list(range(len(heard)))
    random.Random(seed).shuffle(order)
    judges = min(JUDGES, max(1, round(HELD_OUT * len(heard)))) if len(heard) > 3 else 0
    return [heard[i] for i in sorted(order[judges:])], [heard[i] for i in sorted(order[:judges])]


def _voice(model: DisentanglingVAE, learned: list[Heard], seed: int) -> Voice:
    """The voice of all, with the exemplars of some: as many as conversion can look up quickly."""
    voices = [model.voice(mel, known=known) for mel, known in learned]
    general = Voice.join(voices).average()
    random.Random(seed).shuffle(voices)
    kept, count = [], 0
    for voice in voices:
        if count < MOST:
            kept.append(voice)
            count += voice.timbre.said.shape[1]
    exemplars = Voice.join(kept).average().timbre
    timbre = type(exemplars)(general.timbre.latent, exemplars.said, exemplars.sound, exemplars.exists)
    return Voice(timbre, general.register)


def _miss(model: DisentanglingVAE, voice: Voice, judges: list[Heard]) -> float:
    """Mean |difference| between utterances and what the model makes of their words in the voice; NaN for none."""
    bands, missed, weight = model.config.encoder_bands, 0.0, 0.0
    for mel, known in judges:
        mel = mel - level(mel[:, :bands])
        pitch = model.pitch(mel)
        decoded = model.decoder(model.content(mel).mean, voice.timbre, pitch, frames=mel.shape[2])
        missed += ((decoded - mel).abs().sum(dim=2) * known).sum().item()
        weight += known.sum().item() * mel.shape[2]
    return missed / weight if weight else float("nan")


def _card(report: Report, model: str | Path | None, steps: int) -> str:
    return (
        "---\nlibrary_name: vcvae\npipeline_tag: audio-to-audio\n---\n"
        "# A converter to one voice\n\n"
        f"Made by `vcvae adapt` from {model or 'the model that ships'} and {report.seconds / 60:.1f} minutes of speech "
        f"({report.utterances} pieces), {steps} steps. `vcvae convert src.wav --model` this folder needs no target.\n\n"
        + (
            f"Mean |difference| of log-mels, {report.judges} pieces that taught nothing, rebuilt: "
            f"{report.before:.3f} before, {report.after:.3f} after.\n\n"
            if report.judges
            else ""
        )
        + "A voice is a person's: whose it is, and that they agreed, is for the author to add here.\n"
    )
