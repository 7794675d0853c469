"""A batch of several segments of each speaker, and who lends the voice to whom in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.features.f0 import F0Contour, F0Statistics
from vcvae.features.mel import MelSpectrogram, level, valid_band_mask
from vcvae.models.conversion.vae import DisentanglingConfig
from vcvae.models.conversion.voice import SpeakerReference
from vcvae.training.task import Batch


class SegmentBatch(nn.Module):
    """Segments lie one below the other: first one of each speaker, then another of each in the same order, and so on.

    Each is rebuilt with the reference of the other segments of its speaker, and converted to the speaker before.
    """

    def __init__(self, config: DisentanglingConfig, segments: int) -> None:
        super().__init__()
        self.config, self.segments = config, segments
        self.spectrogram = MelSpectrogram(config.mel)

    def analyse(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch, (speakers, segments, …) → samples, level-zero mels, valid_bands bands (…, n_mels), speakers."""
        samples = batch["samples"].transpose(0, 1).flatten(0, 1)
        mel = self._mel(samples)
        valid_bands = valid_band_mask(batch["bandwidth"].T.flatten(), self.config.mel)
        return samples, mel, valid_bands, batch["speaker"].repeat(self.segments)

    def parallel_mel(self, batch: Batch, *, otherwise: Tensor) -> Tensor:
        """Level-zero mels of what others say at the same time, where speech is parallel, and `otherwise` elsewhere."""
        if "parallel" not in batch:
            return otherwise
        mel = self._mel(batch["parallel"].transpose(0, 1).flatten(0, 1))
        return torch.where(batch["is_parallel"].T.reshape(-1, 1, 1), mel, otherwise)

    def _mel(self, samples: Tensor) -> Tensor:
        mel = self.spectrogram(samples)
        return mel - level(mel[:, : self.config.encoder_bands])

    def of_previous_speaker(self, x: Tensor) -> Tensor:
        """For each item of a batch (batch, …), the same segment of the speaker before: another speaker's."""
        return self._by_segment(x).roll(1, dims=1).flatten(0, 1)

    def others(self, reference: SpeakerReference) -> SpeakerReference:
        """For each segment, the reference that the other segments of its speaker show together."""
        count = self.segments
        others = torch.tensor([[j for j in range(count) if j != i] for i in range(count)])

        def gather(x: Tensor) -> Tensor:
            """(batch, frames, …) → (batch, (segments - 1) · frames, …)."""
            return self._by_segment(x)[others].transpose(1, 2).flatten(2, 3).flatten(0, 1)

        latent = F.normalize(gather(reference.embedding[:, None]).mean(dim=1), dim=-1)
        return SpeakerReference(latent, gather(reference.keys), gather(reference.values), gather(reference.mask))

    def to_previous_statistics(self, f0: F0Contour) -> F0Contour:
        """Each contour in the f0_statistics of the speaker before."""
        found = f0.statistics()
        own = [self._by_segment(x).nanmean(dim=0) for x in (found.mean, found.spread)]
        here, there = (F0Statistics(*(x.roll(back).repeat(self.segments) for x in own)) for back in (0, 1))
        return f0.move(here, there)

    def _by_segment(self, x: Tensor) -> Tensor:
        """(batch, …) → (segments, speakers, …)."""
        return x.unflatten(0, (self.segments, -1))
