"""What conversion knows of a target: how it sounds, and where its f0 lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from vcvae.errors import VcvaeError, replacing
from vcvae.features.f0 import F0Statistics
from vcvae.models.hub import fetch

VOICE = "voice.safetensors"  # beside the weights of a model that was adapted to one voice


@dataclass(frozen=True)
class SpeakerReference:
    """How the speakers of a batch of utterances sound: what the decoder is told of them.

    In general, the speaker latent (batch, speaker_latent); and frame by frame, at a quarter of the mel's rate, the
    exemplars: what each frame has `said` (batch, frames, content_latent), how it did `sound` (batch, frames,
    speaker_channels), and whether it `exists` (batch, frames, 1) or is padding.
    """

    embedding: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor

    @classmethod
    def join(cls, speaker_references: Iterable[SpeakerReference]) -> SpeakerReference:
        """Several batches as one."""
        speaker_references = list(speaker_references)
        min_utterance_samples = max(reference.keys.shape[1] for reference in speaker_references)
        frames = [[t.keys, t.values, t.mask] for t in speaker_references]
        padded = [[F.pad(x, (0, 0, 0, min_utterance_samples - x.shape[1])) for x in xs] for xs in frames]
        return cls(torch.cat([t.embedding for t in speaker_references]), *map(torch.cat, zip(*padded, strict=True)))

    def average(self) -> SpeakerReference:
        """The one reference, (1, …), that a batch of utterances by one speaker shows: the mean latent, and all frames."""
        exists = self.mask[..., 0] > 0
        return SpeakerReference(
            F.normalize(self.embedding.mean(dim=0, keepdim=True), dim=-1),
            *(x[exists][None] for x in (self.keys, self.values, self.mask)),
        )

    def expand(self, batch: int) -> SpeakerReference:
        """One reference for a whole batch."""
        return SpeakerReference(
            *(x.expand(batch, *x.shape[1:]) for x in (self.embedding, self.keys, self.values, self.mask))
        )

    def __getitem__(self, index: Tensor | slice) -> SpeakerReference:
        """The speaker_references of some of the batch's items."""
        return SpeakerReference(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class Voice:
    """A target: what conversion needs to know of the speakers of a batch of utterances.

    The reference, and the f0_statistics, (batch,).
    """

    reference: SpeakerReference
    f0_statistics: F0Statistics

    @classmethod
    def join(cls, voices: Iterable[Voice]) -> Voice:
        """Several batches as one."""
        voices = list(voices)
        return cls(
            SpeakerReference.join(voice.reference for voice in voices),
            F0Statistics.join(voice.f0_statistics for voice in voices),
        )

    def average(self) -> Voice:
        """The one voice, (1, …), that a batch of utterances by one speaker shows."""
        return Voice(self.reference.average(), self.f0_statistics.average())

    def __getitem__(self, index: Tensor | slice) -> Voice:
        """The voices of some of the batch's items."""
        return Voice(self.reference[index], self.f0_statistics[index])

    def save(self, folder: str | Path) -> None:
        """Write one voice, (1, …), beside the model that it is for; the exemplars in float16.

        Raises:
            VcvaeError: it cannot be written.
        """
        parts = {
            "embedding": self.reference.embedding,
            "keys": self.reference.keys.half(),
            "values": self.reference.values.half(),
            "f0_mean": self.f0_statistics.mean,
            "f0_std": self.f0_statistics.std,
        }
        with replacing(Path(folder) / VOICE) as file:
            file.write(save({name: value.contiguous().cpu() for name, value in parts.items()}))

    @classmethod
    def load(cls, source: str | Path, **options: Any) -> Voice:
        """The voice that is saved with a model, in a folder or a Hugging Face repository.

        Raises:
            VcvaeError: none is there, or it cannot be read.
        """
        file = fetch(source, VOICE, give="a model that 'vcvae adapt' made, or a target", **options)
        try:
            parts = {name: value.float() for name, value in load_file(file).items()}
            said, sound = parts["keys"], parts["values"]
            reference = SpeakerReference(parts["embedding"], said, sound, torch.ones_like(said[..., :1]))
            return cls(reference, F0Statistics(parts["f0_mean"], parts["f0_std"]))
        except (SafetensorError, KeyError, OSError) as error:
            raise VcvaeError(f"{file}: not a voice that 'vcvae adapt' saved ({error}).") from None

    def to(self, device: torch.device) -> Voice:
        """The same, on a device."""
        reference = SpeakerReference(
            *(getattr(self.reference, field.name).to(device) for field in fields(SpeakerReference))
        )
        return Voice(reference, self.f0_statistics.to(device))
