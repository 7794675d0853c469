"""Guidance: what brings a conversion in one pass nearer to its target, and away from its source.

- The speaker statistics that the decoder is conditioned on are corrected: an excerpt of the source is converted and
  synthesized, and most of what its statistics lack of the target's is added to these. It is one step of a damped
  fixed-point iteration, whose solution is a conversion with the statistics of the target.
- The decoder's output is moved away from what the decoder makes of the same content in the source's own voice. It is
  classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598) with the source's voice in place of no condition.

A voice that was learned needs neither: fine-tuning reduces the same errors further, and costs words where both are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from vcvae.convert.encoder import padded_mel
from vcvae.convert.source import SourceAnalysis
from vcvae.models.conversion.voice import Voice

if TYPE_CHECKING:
    from vcvae.convert.converter import Converter

CORRECTION = 0.8  # of what the statistics lack; all of it is too much for recordings unlike those of the training
WEIGHT = 0.1  # of the difference to the conversion in the source's own voice; with more, naturalness is lost


@dataclass(frozen=True)
class Guidance:
    """Moves decoded mels away from what the decoder makes of the same content in the source's own voice.

    Attributes:
        source_voice: the source's own voice.
        weight: the part of the difference that is added; with more, less of the source's voice and of naturalness is
            left.
    """

    source_voice: Voice
    weight: float = WEIGHT

    def guided(self, decoded: Tensor, source_decoded: Tensor) -> Tensor:
        """A decoded mel, away from the one in the source's own voice, of the same shape."""
        return decoded + self.weight * (decoded - source_decoded)


def guide(
    converter: Converter, voice: Voice, source: SourceAnalysis, *, weight: float = WEIGHT
) -> tuple[Voice, Guidance | None]:
    """The voice with corrected statistics, and the guidance; None where the conversion is not guided.

    Args:
        converter: converts the source's excerpt.
        voice: of the target.
        source: what is measured of the whole source.
        weight: of the guidance.
    """
    excerpt = source.excerpt
    if voice.learned or excerpt is None:
        return voice, None
    mel, net = excerpt.mel, converter.speaker_net
    own = converter.model.reference(mel, converter.model.content(mel).mean, statistics=net(mel) if net else None)
    guidance = Guidance(replace(voice, reference=own), weight)
    if net is None:
        return voice, guidance
    target_f0 = converter.target_f0(excerpt.f0, source.f0_statistics, voice)
    samples = converter.synthesize(converter.decode(excerpt, voice, target_f0), target_f0)
    converted_mel = padded_mel(converter.spectrogram, samples, device=converter.device)
    reached = converter.model.statistics(net(converted_mel))
    target = voice.reference.statistics
    corrected = replace(voice.reference, statistics=target + CORRECTION * (target - reached))
    return replace(voice, reference=corrected), guidance
