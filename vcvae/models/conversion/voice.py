"""A target voice: what conversion takes of the target's utterances."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

VOICE = "voice.safetensors"  # beside the weights of a model that is adapted to one voice


@dataclass(frozen=True)
class SpeakerReference:
    """What the decoder takes of the speakers of a batch of utterances.

    Args:
        embedding: of the speaker, (batch, speaker_latent), of unit length.
        keys: the content of each frame, at a quarter of the mel's frame rate, (batch, frames, content_latent).
        values: the speaker encoder's features of each frame, (batch, frames, speaker_channels).
        mask: 1 where a frame is real and 0 where it is padding, (batch, frames, 1).
    """

    embedding: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor

    @classmethod
    def join(cls, references: Iterable[SpeakerReference]) -> SpeakerReference:
        """Concatenate batches; the shorter ones are padded."""
        references = list(references)
        frames = max(reference.keys.shape[1] for reference in references)

        def padded(name: str) -> Tensor:
            parts = [getattr(reference, name) for reference in references]
            return torch.cat([F.pad(x, (0, 0, 0, frames - x.shape[1])) for x in parts])

        embedding = torch.cat([reference.embedding for reference in references])
        return cls(embedding, padded("keys"), padded("values"), padded("mask"))

    def average(self) -> SpeakerReference:
        """One reference, (1, …), for a batch of utterances by one speaker: the mean embedding, and all frames."""
        real = self.mask[..., 0] > 0
        embedding = F.normalize(self.embedding.mean(dim=0, keepdim=True), dim=-1)
        return SpeakerReference(embedding, self.keys[real][None], self.values[real][None], self.mask[real][None])

    def expand(self, batch: int) -> SpeakerReference:
        """One reference for a whole batch."""
        return self._map(lambda x: x.expand(batch, *x.shape[1:]))

    def __getitem__(self, index: Tensor | slice) -> SpeakerReference:
        """Some of the batch's items."""
        return self._map(lambda x: x[index])

    def to(self, device: torch.device) -> SpeakerReference:
        """Move to a device."""
        return self._map(lambda x: x.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> SpeakerReference:
        return SpeakerReference(*(function(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Voice:
    """The target of a conversion: the speaker reference and the F0 statistics of a batch of utterances."""

    reference: SpeakerReference
    f0_statistics: F0Statistics

    @classmethod
    def join(cls, voices: Iterable[Voice]) -> Voice:
        """Concatenate batches."""
        voices = list(voices)
        return cls(
            SpeakerReference.join(voice.reference for voice in voices),
            F0Statistics.join(voice.f0_statistics for voice in voices),
        )

    def average(self) -> Voice:
        """One voice, (1, …), for a batch of utterances by one speaker."""
        return Voice(self.reference.average(), self.f0_statistics.average())

    def __getitem__(self, index: Tensor | slice) -> Voice:
        """Some of the batch's items."""
        return Voice(self.reference[index], self.f0_statistics[index])

    def to(self, device: torch.device) -> Voice:
        """Move to a device."""
        return Voice(self.reference.to(device), self.f0_statistics.to(device))

    def save(self, folder: str | Path) -> None:
        """Write one voice, (1, …), into the folder of the model that it is for; keys and values in float16.

        Raises:
            VcvaeError: it cannot be written.
        """
        tensors = {
            "embedding": self.reference.embedding,
            "keys": self.reference.keys.half(),
            "values": self.reference.values.half(),
            "f0_mean": self.f0_statistics.mean,
            "f0_std": self.f0_statistics.std,
        }
        with replacing(Path(folder) / VOICE) as file:
            file.write(save({name: value.contiguous().cpu() for name, value in tensors.items()}))

    @classmethod
    def load(cls, source: str | Path, **options: Any) -> Voice:
        """The voice saved with a model, in a folder or a Hugging Face repository.

        Raises:
            VcvaeError: there is none, or it cannot be read.
        """
        file = fetch(source, VOICE, give="a model that 'vcvae adapt' made, or a target", **options)
        try:
            tensors = {name: value.float() for name, value in load_file(file).items()}
            keys = tensors["keys"]
            mask = torch.ones_like(keys[..., :1])
            reference = SpeakerReference(tensors["embedding"], keys, tensors["values"], mask)
            return cls(reference, F0Statistics(tensors["f0_mean"], tensors["f0_std"]))
        except (SafetensorError, KeyError, OSError) as error:
            raise VcvaeError(f"{file}: not a voice that 'vcvae adapt' saved ({error}).") from None
