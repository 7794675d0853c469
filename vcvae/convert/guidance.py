"""Guidance: what brings a conversion in one pass nearer to its target, and away from its source.

- The speaker statistics that the decoder is conditioned on are corrected: an excerpt of the source is converted and
  synthesized, and most of what its statistics lack of the target's is added to these. It is one step of a damped
  fixed-point iteration, whose solution is a conversion with the statistics of the target.
- The decoder's output is moved away from what the decoder makes of the same content in the source's own voice. It is
  classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598) with the source's voice in place of no condition.

A voice that was learned needs neither: fine-tuning reduces the same errors further, and costs words where both are.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from vcvae.convert.encoder import padded_mel
from vcvae.features.f0 import F0Contour, F0Statistics
from vcvae.features.mel import MelConfig
from vcvae.models.conversion.voice import Voice

if TYPE_CHECKING:
    from vcvae.convert.converter import Converter

CORRECTION = 0.8  # of what the statistics lack; all of it is too much for recordings unlike those of the training
WEIGHT = 0.1  # of the difference to the conversion in the source's own voice; with more, words are lost
EXCERPT_FRAMES = 430  # mel frames of the excerpt: 5 s
MIN_EXCERPT_FRAMES = 86  # of a shorter source, 1 s, the statistics say too little


class Excerpt:
    """The stretch of a source with the most sound, of blocks.

    Attributes:
        mel: ln-mel (1, n_mels, `EXCERPT_FRAMES` at most); None where there is too little, or no sound at all.
        f0: its contour, with one value for two frames.
    """

    def __init__(self, config: MelConfig) -> None:
        self._level = math.log(config.floor)
        self.mel: Tensor | None = None
        self.f0: F0Contour | None = None

    def add(self, mel: Tensor, f0: F0Contour) -> None:
        """The next block: ln-mel (1, n_mels, frames) and F0 (1, ceil(frames / 2))."""
        if mel.shape[2] < MIN_EXCERPT_FRAMES:
            return
        # The mean of the logarithm: a minute of speech counts for more than a door that slams.
        frames = min(mel.shape[2], EXCERPT_FRAMES)
        levels = mel[0].mean(dim=0).unfold(0, frames, 1).mean(dim=1)
        start = int(levels.argmax()) // 2 * 2
        if levels[start] > self._level + 1e-3:
            self._level = float(levels[start])
            self.mel = mel[..., start : start + frames].clone()
            self.f0 = f0[:, start // 2 : -(-(start + frames) // 2)]


def guide(
    converter: Converter, voice: Voice, excerpt: Excerpt, f0_statistics: F0Statistics
) -> tuple[Voice, Voice | None]:
    """The voice with corrected statistics, and the source's own voice; None where the conversion is not guided.

    Args:
        converter: converts the excerpt.
        voice: of the target.
        excerpt: of the source.
        f0_statistics: of the whole source, (1,).
    """
    mel = excerpt.mel
    if voice.learned or mel is None:
        return voice, None
    net = converter.speaker_net
    own = converter.model.reference(mel, converter.model.content(mel).mean, statistics=net(mel) if net else None)
    source_voice = replace(voice, reference=own)
    if net is None:
        return voice, source_voice
    target_f0 = converter.target_f0(excerpt.f0, f0_statistics, voice)
    samples = converter.synthesize(converter.decode(mel, voice, target_f0), target_f0)
    converted_mel = padded_mel(converter.spectrogram, samples, device=converter.device)
    reached = converter.model.statistics(net(converted_mel))
    target = voice.reference.statistics
    corrected = replace(voice.reference, statistics=target + CORRECTION * (target - reached))
    return replace(voice, reference=corrected), source_voice


def guided(decoded: Tensor, source_decoded: Tensor) -> Tensor:
    """A decoded mel, away from the one in the source's own voice, of the same shape."""
    return decoded + WEIGHT * (decoded - source_decoded)
