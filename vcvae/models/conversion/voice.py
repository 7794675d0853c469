"""A target voice: what conversion takes of the target's utterances, what was learned from them, and its file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from vcvae.defaults import VOICE_SUFFIX
from vcvae.errors import VcvaeError, replacing
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion.difference import WeightDifference
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.tensor_files import read_tensors, refusing

VOICE_FORMAT = "vcvae voice 1"  # in a file's metadata; another number for files that this version cannot read
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
MAX_VOICE_VALUES = 2**24  # of a file's tensors: the largest reference of the widest model, and a learned difference
MAX_CARD_TEXT = 2**16  # characters of a text of the card
MAX_OCTAVES = 20.0  # of F0 statistics, whose mean is log2 of Hz
MAKER = "'vcvae voice'"
FINGERPRINT = re.compile(r"[0-9a-f]{16}|")


def is_voice(path: str | Path) -> bool:
    """Whether a path is named as a voice's file is."""
    return Path(path).suffix.lower() == VOICE_SUFFIX


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

    @classmethod
    def mix(cls, cards: Sequence[VoiceCard], weights: Sequence[float]) -> VoiceCard:
        """The card of a mixture; its consent is stated where that of each voice is."""
        names = [card.name or f"voice {number + 1}" for number, card in enumerate(cards)]

        def joined(texts: Iterable[str]) -> str:
            return "; ".join(f"{name}: {text}" for name, text in zip(names, texts, strict=True) if text)

        return cls(
            name=" + ".join(f"{weight:.2g} {name}" for name, weight in zip(names, weights, strict=True)),
            consent=joined(card.consent for card in cards) if all(card.consent for card in cards) else "",
            note=joined(card.note for card in cards),
            seconds=sum(card.seconds for card in cards),
            steps=max(card.steps for card in cards),
            model=cards[0].model,
        )


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

    @classmethod
    def mix(cls, voices: Iterable[Voice], weights: Iterable[float] | None = None) -> Voice:
        """A voice between several, (1, …) each, on one device.

        The reference is that of `SpeakerReference.mix`. F0 statistics are interpolated in log F0, those of the voices
        that have some; learned differences are added, a voice that learned nothing having none. Bands that one of the
        voices has are valid.

        Args:
            voices: for one model.
            weights: of the voices, not negative; they are scaled to the sum 1. By default all are equal.

        Raises:
            VcvaeError: no voices, weights that do not fit, or voices for different models.

        Example:
            >>> from vcvae.models.conversion.vae import DisentanglingVAE
            >>> model = DisentanglingVAE().eval()
            >>> Voice.mix([model.voice(torch.randn(1, 80, 80)) for _ in range(2)], [0.75, 0.25]).reference.keys.shape
            torch.Size([1, 27, 64])
        """
        voices = list(voices)
        weights = [1.0] * len(voices) if weights is None else [float(weight) for weight in weights]
        if not voices or len(weights) != len(voices):
            raise VcvaeError(f"a mixture of {len(voices)} voices and {len(weights)} weights; give one for each voice.")
        if not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
            raise VcvaeError(f"a mixture of weights {weights}; none may be negative, and one must be above 0.")
        used = [(voice, weight / sum(weights)) for voice, weight in zip(voices, weights, strict=True) if weight]
        voices, weights = [voice for voice, _ in used], [weight for _, weight in used]
        learned = [(voice.learned, weight) for voice, weight in used if voice.learned]
        fit = len({(voice.fingerprint, *voice.sizes) for voice in voices}) == 1
        if not (fit and WeightDifference.fit_together(difference for difference, _ in learned)):
            names = ", ".join(str(voice.path or voice.card.name or "a voice") for voice in voices)
            raise VcvaeError(f"{names}: made for different models; make them anew with one: vcvae voice RECORDINGS")
        return cls(
            SpeakerReference.mix([voice.reference for voice in voices], weights),
            F0Statistics.mix([voice.f0_statistics for voice in voices], weights),
            torch.cat([voice.valid_bands for voice in voices]).amax(dim=0, keepdim=True),
            WeightDifference.mix(*zip(*learned, strict=True)) if learned else None,
            voices[0].fingerprint,
            VoiceCard.mix([voice.card for voice in voices], weights),
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of embedding, statistics, keys, values and bands: the dimensions that the model's configuration gives."""
        reference = self.reference
        tensors = (reference.embedding, reference.statistics, reference.keys, reference.values, self.valid_bands)
        return tuple(tensor.shape[-1] for tensor in tensors)

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
        metadata = {"format": VOICE_FORMAT, "fingerprint": self.fingerprint}
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
        with refusing(path, of=f"a voice that {MAKER} wrote", advice="make it anew"):
            tensors, metadata = read_tensors(
                path, max_values=MAX_VOICE_VALUES, advice=f"give a voice that {MAKER} wrote"
            )
            return _read(tensors, metadata, path)


def _read(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> Voice:
    """The tensors and the metadata of a file, checked. Raises ValueError or KeyError where they are no voice's."""
    if metadata.get("format") != VOICE_FORMAT:
        raise ValueError(f"its format is not '{VOICE_FORMAT}'")
    for name, tensor in tensors.items():
        types = LEARNED_TYPES if name.startswith(LEARNED) else (TENSORS.get(name),)
        if types == (None,):
            raise ValueError(f"'{name}' belongs to no voice")
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
    begins = {  # the sizes before the last, which the model's configuration gives
        "embedding": (embedding, (1,)),
        "statistics": (statistics, (1,)),
        "keys": (keys, (1, frames)),
        "values": (values, (1, frames)),
        "f0_mean": (f0_mean, ()),
        "f0_std": (f0_std, ()),
        "valid_bands": (valid_bands, (1,)),
    }
    for name, (tensor, begin) in begins.items():
        fits = tensor.ndim == len(begin) + 1 and tensor.shape[:-1] == begin and (begin or len(tensor) == 1)
        if not fits or not (tensor.numel() or name == "statistics"):
            raise ValueError(f"'{name}' has the shape {tuple(tensor.shape)}")
    is_voiced = 0 < f0_mean < MAX_OCTAVES and 0 <= f0_std < MAX_OCTAVES  # log2 of Hz, and octaves
    if not (is_voiced or (f0_mean.isnan() and f0_std.isnan())):
        raise ValueError("'f0_mean' and 'f0_std' are no statistics")
    fingerprint = metadata["fingerprint"]
    if not FINGERPRINT.fullmatch(fingerprint):
        raise ValueError("its 'fingerprint' is none of a model")
    learned = {name.removeprefix(LEARNED): x for name, x in tensors.items() if name.startswith(LEARNED)}
    card = {field.name: metadata[field.name] for field in fields(VoiceCard)}
    seconds, steps = float(card["seconds"]), int(card["steps"])
    if max(map(len, card.values())) > MAX_CARD_TEXT or not (0 <= seconds < math.inf and steps >= 0):
        raise ValueError("its card is none of a voice")
    return Voice(
        SpeakerReference(embedding, statistics, keys.float(), values.float(), torch.ones(1, frames, 1)),
        F0Statistics(f0_mean, f0_std),
        valid_bands.float(),
        WeightDifference.from_stored(learned) if learned else None,
        fingerprint,
        VoiceCard(**card | {"seconds": seconds, "steps": steps}),
        path,
    )
