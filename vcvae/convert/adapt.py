"""A conversion model that is fine-tuned on one speaker and saved with the speaker's voice.

It is the same fine-tuning as in a conversion (`vcvae.convert.finetune`), done once with all recordings of the speaker.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vcvae import audio
from vcvae.convert.encoder import Encoder, ReferenceMel
from vcvae.convert.finetune import finetune, limited_voice
from vcvae.convert.losses import load_losses
from vcvae.defaults import VOICE_STEPS
from vcvae.errors import VcvaeError, disk_errors
from vcvae.features.mel import normalize_level
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.models.hub import check_vacant
from vcvae.progress import Progress

MIN_SECONDS = 10.0  # of speech that are needed
MAX_MINUTES = 30.0  # of speech that are used; the rest is not read
HELD_OUT_SHARE = 0.1  # of the utterances, which are not learned and only measure the result
MAX_HELD_OUT = 8  # utterances; more would only take time


@dataclass(frozen=True)
class AdaptReport:
    """What was learned from, and the mel L1 (nepers) of the `held_out` utterances, before and after fine-tuning.

    A held-out utterance is decoded from its own content and F0, and the voice of the others.
    """

    seconds: float
    utterances: int
    held_out: int
    before: float
    after: float


def adapt(
    model: str | Path | None,
    recordings: str | Path,
    output: str | Path,
    *,
    steps: int = VOICE_STEPS,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
) -> AdaptReport:
    """Fine-tune a conversion model on one speaker, and save it with the speaker's voice.

    The sources of the replay and of the losses are the sentences that come with the package.

    Args:
        model: a folder or a Hugging Face repository id; by default, the released model.
        recordings: a folder of the speaker's recordings, or one file.
        output: a folder for the new model.
        steps: of fine-tuning.
        seed: of fine-tuning, and of which utterances are held out.
        device: `auto`, `cpu`, `cuda` or `mps`.
        force: replace a model in `output`.
        progress: called after each step.

    Raises:
        VcvaeError: there is a model in `output`; recordings that cannot be used, or too few of them.
    """
    output = Path(output)
    check_vacant(output, force)
    encoder = Encoder.from_pretrained(model, device=device)
    references = _load_recordings(encoder, Path(recordings))
    learned, held_out = _split(references, seed)
    losses = load_losses(encoder.mel_config)
    tuned = finetune(
        encoder.model,
        learned,
        sources=encoder.load_sources(),
        losses=losses.to(encoder.device) if losses else None,
        steps=steps,
        seed=seed,
        progress=progress,
    )
    with torch.inference_mode():
        voice = limited_voice(encoder.model, learned, seed=seed)
        before = _reconstruction_l1(encoder.model, voice, held_out)
        after = _reconstruction_l1(tuned, voice, held_out)
    frames = sum(reference.mel.shape[2] for reference in references)
    report = AdaptReport(frames / encoder.mel_config.frame_rate, len(references), len(held_out), before, after)
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        (output / "README.md").write_text(_card(report, model, steps), encoding="utf-8")
        tuned.half().save_pretrained(output)
    voice.save(output)
    return report


def _load_recordings(encoder: Encoder, recordings: Path) -> list[ReferenceMel]:
    """The mels of a folder's recordings, or of one file, up to `MAX_MINUTES`."""
    rate = encoder.mel_config.frame_rate
    references = []
    frames = 0
    for file in audio.find_recordings(recordings):
        loaded = encoder.load_references([file])
        references += loaded
        frames += sum(reference.mel.shape[2] for reference in loaded)
        if frames > MAX_MINUTES * 60 * rate:
            break
    if frames < MIN_SECONDS * rate:
        raise VcvaeError(
            f"{recordings}: {frames / rate:.1f} s of speech; give at least {MIN_SECONDS:.0f} s, better some minutes."
        )
    return references


def _split(references: Sequence[ReferenceMel], seed: int) -> tuple[list[ReferenceMel], list[ReferenceMel]]:
    """The utterances to learn, and those held out; of fewer than four none is held out."""
    order = list(range(len(references)))
    random.Random(seed).shuffle(order)
    count = min(MAX_HELD_OUT, max(1, round(HELD_OUT_SHARE * len(references)))) if len(references) > 3 else 0
    learned = [references[i] for i in sorted(order[count:])]
    held_out = [references[i] for i in sorted(order[:count])]
    return learned, held_out


def _reconstruction_l1(model: DisentanglingVAE, voice: Voice, held_out: Sequence[ReferenceMel]) -> float:
    """The mean |difference| of utterances' ln-mels and their decoding in the voice, over valid bands; NaN for none."""
    error = 0.0
    weight = 0.0
    for reference in held_out:
        mel, _ = normalize_level(reference.mel, model.config.encoder_bands)
        decoded = model.decoder(model.content(mel).mean, voice.reference, model.f0(mel), frames=mel.shape[2])
        error += ((decoded - mel).abs().sum(dim=2) * reference.valid_bands).sum().item()
        weight += reference.valid_bands.sum().item() * mel.shape[2]
    return error / weight if weight else float("nan")


def _card(report: AdaptReport, model: str | Path | None, steps: int) -> str:
    result = ""
    if report.held_out:
        change = f"{report.before:.3f} before, {report.after:.3f} after"
        result = f"Mel L1 of {report.held_out} held-out utterances: {change}.\n\n"
    return (
        "---\nlibrary_name: vcvae\npipeline_tag: audio-to-audio\n---\n"
        "# A conversion model of one speaker\n\n"
        f"Made by `vcvae adapt` from {model or 'the released model'} and {report.seconds / 60:.1f} minutes of speech "
        f"({report.utterances} pieces), {steps} steps. `vcvae convert src.wav --model` this folder needs no target.\n\n"
        + result
        + "A voice is a person's: add here whose it is, and that they agreed.\n"
    )
