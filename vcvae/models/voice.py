"""What conversion knows of a target: how it sounds, and where its pitch lies."""

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
from vcvae.models.layers import Mask
from vcvae.models.pretrained import fetch
from vcvae.pitch import Register

VOICE = "voice.safetensors"  # beside the weights of a model that was adapted to one voice


@dataclass(frozen=True)
class Timbre:
    """How the speakers of a batch of utterances sound: what the decoder is told of them.

    In general, the speaker latent (batch, speaker_latent); and frame by frame, at a quarter of the mel's rate, the
    exemplars: what each frame has `said` (batch, frames, content_latent), how it did `sound` (batch, frames,
    speaker_channels), and whether it `exists` (batch, frames, 1) or is padding.
    """

    latent: Tensor
    said: Tensor
    sound: Tensor
    exists: Tensor

    @classmethod
    def join(cls, timbres: Iterable[Timbre]) -> Timbre:
        """Several batches as one."""
        timbres = list(timbres)
        longest = max(timbre.said.shape[1] for timbre in timbres)
        frames = [[t.said, t.sound, t.exists] for t in timbres]
        padded = [[F.pad(x, (0, 0, 0, longest - x.shape[1])) for x in xs] for xs in frames]
        return cls(torch.cat([t.latent for t in timbres]), *map(torch.cat, zip(*padded, strict=True)))

    def average(self) -> Timbre:
        """The one timbre, (1, …), that a batch of utterances by one speaker shows: the mean latent, and all frames."""
        exists = self.exists[..., 0] > 0
        return Timbre(
            F.normalize(self.latent.mean(dim=0, keepdim=True), dim=-1),
            *(x[exists][None] for x in (self.said, self.sound, self.exists)),
        )

    def expand(self, batch: int) -> Timbre:
        """One timbre for a whole batch."""
        return Timbre(*(x.expand(batch, *x.shape[1:]) for x in (self.latent, self.said, self.sound, self.exists)))

    def __getitem__(self, index: Tensor | slice) -> Timbre:
        """The timbres of some of the batch's items."""
        return Timbre(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class Voice:
    """A target: what conversion needs to know of the speakers of a batch of utterances.

    The timbre, and the register, (batch,).
    """

    timbre: Timbre
    register: Register

    @classmethod
    def join(cls, voices: Iterable[Voice]) -> Voice:
        """Several batches as one."""
        voices = list(voices)
        return cls(Timbre.join(voice.timbre for voice in voices), Register.join(voice.register for voice in voices))

    def average(self) -> Voice:
        """The one voice, (1, …), that a batch of utterances by one speaker shows."""
        return Voice(self.timbre.average(), self.register.average())

    def __getitem__(self, index: Tensor | slice) -> Voice:
        """The voices of some of the batch's items."""
        return Voice(self.timbre[index], self.register[index])

    def save(self, folder: str | Path) -> None:
        """Write one voice, (1, …), beside the model that it is for; the exemplars in float16.

        Raises:
            VcvaeError: it cannot be written.
        """
        parts = {
            "latent": self.timbre.latent,
            "said": self.timbre.said.half(),
            "sound": self.timbre.sound.half(),
            "register": self.register.mean,
            "register_spread": self.register.spread,
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
            said, sound = parts["said"], parts["sound"]
            timbre = Timbre(parts["latent"], said, sound, torch.ones_like(said[..., :1]))
            return cls(timbre, Register(parts["register"], parts["register_spread"]))
        except (SafetensorError, KeyError, OSError) as error:
            raise VcvaeError(f"{file}: not a voice that 'vcvae adapt' saved ({error}).") from None

    def to(self, device: torch.device) -> Voice:
        """The same, on a device."""
        timbre = Timbre(*(getattr(self.timbre, field.name).to(device) for field in fields(Timbre)))
        return Voice(timbre, self.register.to(device))


def level(mel: Tensor, mask: Mask = None) -> Tensor:
    """The level of log-mels (batch, bands, frames): ln of the root of their mean energy, (batch, 1, 1).

    A gain of g adds ln g. Pauses weigh nothing, being quiet.
    """
    energy = torch.exp(2 * mel).sum(dim=1)
    weight = torch.ones_like(energy) if mask is None else mask[..., 0]
    return 0.5 * torch.log((energy * weight).sum(dim=1) / weight.sum(dim=1))[:, None, None]
