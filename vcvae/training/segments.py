"""Batches with several segments of each speaker: references from other segments, targets from other speakers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.features.f0 import F0Contour, F0Statistics
from vcvae.features.mel import MelSpectrogram, normalize_level, valid_band_mask
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.training.task import Batch


class SegmentBatch(nn.Module):
    """Prepares training batches, which are segment-major: row s · speakers + k is segment s of speaker k.

    A segment is reconstructed with the reference of the other segments of its speaker, and converted to the previous
    speaker of the batch, k - 1.
    """

    def __init__(self, config: DisentanglingConfig, segments: int) -> None:
        super().__init__()
        self.config, self.segments = config, segments
        self.spectrogram = MelSpectrogram(config.mel)

    def prepare(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch (speakers, segments, …) → its segments in segment-major order.

        Samples (batch, samples), level-normalized log-mels (batch, n_mels, frames), valid bands (batch, n_mels), and
        speaker numbers (batch,).
        """
        samples = segment_major(batch["samples"])
        mel = self._mel(samples)
        valid_bands = valid_band_mask(segment_major(batch["bandwidth"]), self.config.mel)
        return samples, mel, valid_bands, batch["speaker"].repeat(self.segments)

    def parallel_mel(self, batch: Batch, *, otherwise: Tensor) -> Tensor:
        """Level-normalized log-mels of parallel utterances by other speakers; `otherwise` for segments without one."""
        if "parallel" not in batch:
            return otherwise
        mel = self._mel(segment_major(batch["parallel"]))
        return torch.where(segment_major(batch["is_parallel"])[:, None, None], mel, otherwise)

    def _mel(self, samples: Tensor) -> Tensor:
        mel = self.spectrogram(samples)
        return normalize_level(mel, self.config.encoder_bands)[0]

    def of_previous_speaker(self, x: Tensor) -> Tensor:
        """For each row of x (batch, …), the row of the same segment of the previous speaker."""
        return self._by_segment(x).roll(1, dims=1).flatten(0, 1)

    def leave_one_out(self, reference: SpeakerReference) -> SpeakerReference:
        """For each segment, the reference made from the other segments of its speaker."""
        count = self.segments
        others = torch.tensor([[j for j in range(count) if j != i] for i in range(count)])

        def gather(x: Tensor) -> Tensor:
            """(batch, frames, …) → (batch, (segments - 1) · frames, …)."""
            return self._by_segment(x)[others].transpose(1, 2).flatten(2, 3).flatten(0, 1)

        return SpeakerReference(
            F.normalize(gather(reference.embedding[:, None]).mean(dim=1), dim=-1),
            gather(reference.statistics[:, None]).mean(dim=1),
            gather(reference.keys),
            gather(reference.values),
            gather(reference.mask),
        )

    def to_previous_statistics(self, f0: F0Contour) -> F0Contour:
        """Each F0 contour, moved from the F0 statistics of its speaker to those of the previous speaker."""
        statistics = f0.statistics()
        speaker_mean = self._by_segment(statistics.mean).nanmean(dim=0)
        speaker_std = self._by_segment(statistics.std).nanmean(dim=0)
        source = F0Statistics(speaker_mean.repeat(self.segments), speaker_std.repeat(self.segments))
        target = F0Statistics(speaker_mean.roll(1).repeat(self.segments), speaker_std.roll(1).repeat(self.segments))
        return f0.transfer(source, target)

    def _by_segment(self, x: Tensor) -> Tensor:
        """(batch, …) → (segments, speakers, …)."""
        return x.unflatten(0, (self.segments, -1))


def segment_major(x: Tensor) -> Tensor:
    """(speakers, segments, …) → (segments · speakers, …): row s · speakers + k is segment s of speaker k.

    Example:
        >>> segment_major(torch.tensor([[0, 1], [10, 11], [20, 21]])).tolist()
        [0, 10, 20, 1, 11, 21]
    """
    return x.transpose(0, 1).flatten(0, 1)
