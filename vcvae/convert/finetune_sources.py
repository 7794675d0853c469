"""The sources that fine-tuning converts to a target: their segments, with all that does not depend on the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vcvae.conversion_losses import ConversionLosses
from vcvae.convert.encoder import ReferenceMel
from vcvae.features.f0 import F0Contour
from vcvae.models.conversion.asr_features import at_content_frames
from vcvae.models.conversion.modulation import EnvelopeModulation
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice

SEGMENT_FRAMES = 256  # mel frames of a segment, at most: 3 s

MAX_BT_VOICES = 8  # that the target is converted to, for back-translation


@dataclass(frozen=True)
class SourceSegment:
    """A segment of a source, ln-mel (1, n_mels, frames), and what the networks compute from it.

    `asr_features` are those of the segment, synthesized, for `ConversionLosses.content_loss`.
    """

    mel: Tensor
    f0: F0Contour
    content: Tensor
    modulation: EnvelopeModulation
    asr_features: Tensor


class FinetuningSources:
    """Utterances of other speakers in segments, which are encoded when they are first used, and kept.

    So the second target that is learned with the same sources takes less time.
    """

    def __init__(
        self, model: DisentanglingVAE, utterances: Sequence[ReferenceMel], losses: ConversionLosses | None = None
    ) -> None:
        """
        Args:
            model: the conversion model, whose encoders are used.
            utterances: of any speakers.
            losses: the networks that score the conversions. Without them there are no segments, only utterances.
        """
        self.model = model
        self.utterances = list(utterances)
        self.losses = losses
        segmented = self.utterances if losses else []
        self._positions = [(u, start) for u in segmented for start in segment_starts(u.mel.shape[2])]
        self._segments: dict[int, SourceSegment] = {}

    @property
    def segments(self) -> int:
        """The number of segments."""
        return len(self._positions)

    @cached_property
    def voices(self) -> list[Voice]:
        """The voices of some of the utterances, `MAX_BT_VOICES` at most."""
        chosen = self.utterances[:: -(-len(self.utterances) // MAX_BT_VOICES) or 1]
        with torch.no_grad():
            return [self.model.voice(u.mel, valid_bands=u.valid_bands) for u in chosen]

    def segment(self, index: int) -> SourceSegment:
        """A segment; its features do not depend on the state of random numbers, nor change it."""
        if index not in self._segments:
            utterance, start = self._positions[index]
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(index)
                self._segments[index] = self._encode(utterance.mel[:, :, start : start + SEGMENT_FRAMES])
        return self._segments[index]

    def _encode(self, mel: Tensor) -> SourceSegment:
        f0 = self.model.f0(mel)
        features = self.losses.asr_features(self.losses.synthesize(mel, f0))
        taken = None
        if self.model.content.asr:  # those of the segment as it was recorded are little else
            taken = at_content_frames(features, mel.shape[2], self.losses.mel_config)
        content = self.model.content(mel, asr_features=taken).mean
        return SourceSegment(mel, f0, content, self.model.modulation(mel), features)


def segment_starts(frames: int) -> list[int]:
    """The first frames, multiples of 4, of evenly spaced segments that cover an utterance but for its last 3 frames."""
    last = max(frames - SEGMENT_FRAMES, 0) // 4
    gaps = -(-4 * last // SEGMENT_FRAMES)
    return [4 * round(last * i / max(gaps, 1)) for i in range(gaps + 1)]
