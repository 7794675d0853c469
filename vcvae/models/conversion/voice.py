"""A target voice: what conversion takes of the target's utterances, what was learned from them, and its file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from vcvae.defaults import VOICE_SUFFIX
from vcvae.errors import VcvaeError, replacing
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion.difference import WeightDifference

FORMAT = "vcvae voice 1"  # in a file's metadata; another number for files that this version cannot read
LEARNED = "decoder."  # stands before the names of the tensors that belong to the learned difference
TENSORS = {  # of a file, and their types
    "embedding": torch.float32,
    "statistics": torch.float32,
    "keys": torch.float16,
    "values": torch.float16,
    "f0_mean": torch.float32,
    "f0_std": torch.float32,
    "valid_bands": torch.uint8,
}
LEARNED_TYPES = (torch.float16, torch.int8)


def is_voice(path: str | Path) -> bool:
    """Whether a path is named as a voice's file is."""
    return Path(path).suffix.lower() == VOICE_SUFFIX


@dataclass(frozen=True)
class SpeakerReference:
    """What the decoder takes of the speakers of a batch of utterances.

    Args:
        embedding: of the speaker, (batch, speaker_latent), of unit length.
        statistics: of a frozen speaker verification network, projected, (batch, statistics_latent); zero where they are
            not known, and (batch, 0) where the model takes none.
        keys: the content of each frame, at a quarter of the mel's frame rate, (batch, frames, content_latent).
        values: the speaker encoder's features of each frame, (batch, frames, speaker_channels).
        mask: 1 where a frame is real and 0 where it is padding, (batch, frames, 1).
    """

    embedding: Tensor
    statistics: Tensor
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
        statistics = torch.cat([reference.statistics for reference in references])
        return cls(embedding, statistics, padded("keys"), padded("values"), padded("mask"))

    def average(self) -> SpeakerReference:
        """One reference, (1, …), for a batch of utterances by one speaker: means, and all frames."""
        real = self.mask[..., 0] > 0
        return SpeakerReference(
            F.normalize(self.embedding.mean(dim=0, keepdim=True), dim=-1),
            self.statistics.mean(dim=0, keepdim=True),
            self.keys[real][None],
            self.values[real][None],
            self.mask[real][None],
        )

    def with_frames(self, chosen: Tensor | slice) -> SpeakerReference:
        """The same with some of the frames only."""
        return replace(self, keys=self.keys[:, chosen], values=self.values[:, chosen], mask=self.mask[:, chosen])

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
class VoiceCard:
    """Whose voice it is, and what it was made from. Texts that were not given are empty.

    Args:
        name: whose voice it is.
        consent: that the speaker agreed, and how.
        note: anything else, such as a licence.
        seconds: of speech that it was made from.
        steps: of fine-tuning; 0 for a voice of one pass.
        model: where the model came from: a folder or a Hugging Face repository; empty for the released one.
    """

    name: str = ""
    consent: str = ""
    note: str = ""
    seconds: float = 0.0
    steps: int = 0
    model: str = ""


@dataclass(frozen=True)
class Voice:
    """The target of a conversion, or a batch of them.

    Args:
        reference: what the decoder takes of the speaker.
        f0_statistics: of the speaker.
        valid_bands: 1 for the bands that the bandwidth of the recordings covers, (batch, n_mels).
        learned: the difference to the decoder's weights that fine-tuning made; of one voice, not of a batch.
        fingerprint: of the model that the voice is for (`vcvae.models.hub.fingerprint`); empty where it was not given.
        card: whose voice it is.
        path: the file that it was read from.
    """

    reference: SpeakerReference
    f0_statistics: F0Statistics
    valid_bands: Tensor
    learned: WeightDifference | None = None
    fingerprint: str = ""
    card: VoiceCard = VoiceCard()
    path: Path | None = field(default=None, compare=False)

    @classmethod
    def join(cls, voices: Iterable[Voice]) -> Voice:
        """Concatenate batches of voices without a learned difference."""
        voices = list(voices)
        if any(voice.learned for voice in voices):
            raise ValueError("voices that were learned have weights of their own, and cannot form a batch")
        return cls(
            SpeakerReference.join(voice.reference for voice in voices),
            F0Statistics.join(voice.f0_statistics for voice in voices),
            torch.cat([voice.valid_bands for voice in voices]),
        )

    def average(self) -> Voice:
        """One voice, (1, …), for a batch of utterances by one speaker; bands that one of them has are valid."""
        return replace(
            self,
            reference=self.reference.average(),
            f0_statistics=self.f0_statistics.average(),
            valid_bands=self.valid_bands.amax(dim=0, keepdim=True),
        )

    def __getitem__(self, index: Tensor | slice) -> Voice:
        """Some of the batch's items."""
        return replace(
            self,
            reference=self.reference[index],
            f0_statistics=self.f0_statistics[index],
            valid_bands=self.valid_bands[index],
        )

    def to(self, device: torch.device) -> Voice:
        """Move to a device."""
        if torch.empty(0, device=device).device == self.valid_bands.device:
            return self  # so that `learned` keeps the decoders that it was applied to
        return replace(
            self,
            reference=self.reference.to(device),
            f0_statistics=self.f0_statistics.to(device),
            valid_bands=self.valid_bands.to(device),
            learned=self.learned.to(device) if self.learned else None,
        )

    def save(self, path: str | Path) -> None:
        """Write one voice, (1, …): a safetensors file, whose metadata holds the card and the model's fingerprint.

        Reference frames are stored in float16, the learned difference as in `WeightDifference.stored`.

        Raises:
            VcvaeError: it cannot be written; then nothing is left behind.
        """
        real = self.reference.mask[0, :, 0] > 0
        tensors = {
            "embedding": self.reference.embedding.float(),
            "statistics": self.reference.statistics.float(),
            "keys": self.reference.keys[:, real].half(),
            "values": self.reference.values[:, real].half(),
            "f0_mean": self.f0_statistics.mean.float(),
            "f0_std": self.f0_statistics.std.float(),
            "valid_bands": self.valid_bands.to(torch.uint8),
        }
        if self.learned:
            tensors |= {LEARNED + name: tensor for name, tensor in self.learned.stored().items()}
        metadata = {"format": FORMAT, "fingerprint": self.fingerprint}
        metadata |= {name: str(value) for name, value in asdict(self.card).items()}
        data = save({name: value.contiguous().cpu().clone() for name, value in tensors.items()}, metadata)
        with replacing(path) as file:
            file.write(data)

    @classmethod
    def load(cls, path: str | Path) -> Voice:
        """The voice in a file that `save` wrote.

        Raises:
            VcvaeError: it cannot be read, or is no such file.
        """
        path = Path(path)
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            return _read(tensors, metadata, path)
        except (SafetensorError, ValueError, KeyError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
            raise VcvaeError(f"{path}: not a voice that 'vcvae voice' wrote ({reason}); make it anew.") from None
        except OSError as error:
            reason = error.strerror or ("no such file" if not path.exists() else "not a file")
            raise VcvaeError(f"{path}: cannot be read ({reason}); give a voice that 'vcvae voice' wrote.") from None


def _read(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> Voice:
    """The tensors and the metadata of a file, checked. Raises ValueError or KeyError where they are no voice's."""
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is not '{FORMAT}'")
    for name, tensor in tensors.items():
        types = LEARNED_TYPES if name.startswith(LEARNED) else (TENSORS[name],)
        if tensor.dtype not in types:
            raise ValueError(f"'{name}' is {str(tensor.dtype).removeprefix('torch.')}")
        if tensor.is_floating_point() and not tensor.isfinite().all() and name not in ("f0_mean", "f0_std"):
            raise ValueError(f"'{name}' holds NaN")
    embedding = tensors["embedding"]
    statistics = tensors["statistics"]
    keys = tensors["keys"]
    values = tensors["values"]
    f0_mean = tensors["f0_mean"]
    f0_std = tensors["f0_std"]
    valid_bands = tensors["valid_bands"]
    frames = keys.shape[1] if keys.ndim == 3 else 0
    shapes = {
        "embedding": (embedding, (1, embedding.shape[-1])),
        "statistics": (statistics, (1, statistics.shape[-1])),
        "keys": (keys, (1, frames, keys.shape[-1])),
        "values": (values, (1, frames, values.shape[-1])),
        "f0_mean": (f0_mean, (1,)),
        "f0_std": (f0_std, (1,)),
        "valid_bands": (valid_bands, (1, valid_bands.shape[-1])),
    }
    for name, (tensor, shape) in shapes.items():
        if tensor.shape != shape or not (tensor.numel() or name == "statistics"):
            raise ValueError(f"'{name}' has the shape {tuple(tensor.shape)}")
    if f0_mean.isnan() != f0_std.isnan() or f0_mean.isinf() or f0_std.isinf():
        raise ValueError("'f0_mean' and 'f0_std' are no statistics")
    learned = {name.removeprefix(LEARNED): x for name, x in tensors.items() if name.startswith(LEARNED)}
    card = {field.name: metadata[field.name] for field in fields(VoiceCard)}
    return Voice(
        SpeakerReference(embedding, statistics, keys.float(), values.float(), torch.ones(1, frames, 1)),
        F0Statistics(f0_mean, f0_std),
        valid_bands.float(),
        WeightDifference.from_stored(learned) if learned else None,
        metadata["fingerprint"],
        VoiceCard(**card | {"seconds": float(card["seconds"]), "steps": int(card["steps"])}),
        path,
    )
