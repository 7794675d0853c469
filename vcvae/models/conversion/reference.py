"""What the decoder takes of the utterances of speakers beside F0: embedding, statistics, and each frame's content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_REFERENCE_FRAMES = 3072  # content frames (140 s) of a voice: more change little and cost as much again
KARCHER_STEPS = 16  # of the mean on the sphere; vectors in one half of it need fewer


@dataclass(frozen=True)
class SpeakerReference:
    """What the decoder takes of the speakers of a batch of utterances.

    Args:
        embedding: of the speaker, (batch, speaker_latent), of unit length.
        statistics: of a frozen speaker verification network, projected, (batch, statistics_latent); zero where there
            are none, and (batch, 0) where the model takes none.
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
        """The same with some of the frames only, copied: the others are kept in memory no longer."""
        keys, values, mask = (x[:, chosen].clone() for x in (self.keys, self.values, self.mask))
        return replace(self, keys=keys, values=values, mask=mask)

    @classmethod
    def mix(cls, references: Sequence[SpeakerReference], weights: Sequence[float]) -> SpeakerReference:
        """One reference, (1, …), between several of one utterance or speaker each.

        The embedding lies between theirs on the unit sphere, the statistics are their mean, and the frames are theirs,
        in proportion to the weights.

        Args:
            references: (1, …) each.
            weights: positive, of sum 1.
        """
        embedding = spherical_mean(torch.cat([reference.embedding for reference in references]), weights)
        counts = [int(reference.mask.sum()) for reference in references]
        total = min(MAX_REFERENCE_FRAMES, *(count / weight for count, weight in zip(counts, weights, strict=True)))
        keys, values = [], []
        for reference, count, weight in zip(references, counts, weights, strict=True):
            real = reference.mask[0, :, 0] > 0
            chosen = torch.linspace(0, count - 1, max(1, round(total * weight))).round().long()
            keys.append(reference.keys[:, real][:, chosen])
            values.append(reference.values[:, real][:, chosen])
        joined = torch.cat(keys, dim=1)
        statistics = sum(weight * reference.statistics for reference, weight in zip(references, weights, strict=True))
        return cls(embedding[None], statistics, joined, torch.cat(values, dim=1), torch.ones_like(joined[..., :1]))

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


def spherical_mean(vectors: Tensor, weights: Sequence[float]) -> Tensor:
    """The weighted mean on the unit sphere of vectors (count, dimensions) of unit length, none opposite to another.

    It minimizes the weighted sum of squared angles (Karcher 1977, doi:10.1002/cpa.3160300502); of two vectors it is
    their spherical linear interpolation.
    """
    scale = torch.as_tensor(weights, dtype=vectors.dtype, device=vectors.device)[:, None]
    mean = F.normalize((scale * vectors).sum(dim=0), dim=0)
    for _ in range(KARCHER_STEPS):
        cosine = (vectors @ mean).clamp(-1, 1)[:, None]
        orthogonal = vectors - cosine * mean
        # The angle by its tangent: that of its cosine is rounded to multiples of 3e-4 where it is small.
        angles = torch.atan2(orthogonal.norm(dim=1, keepdim=True), cosine)
        tangent = F.normalize(orthogonal, dim=1) * angles
        step = (scale * tangent).sum(dim=0)
        angle = step.norm()
        mean = F.normalize(angle.cos() * mean + angle.sin() * F.normalize(step, dim=0), dim=0)
    return mean
