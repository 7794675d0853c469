"""How similar conversions to a voice are to recordings of the target, by the network that is the speaker loss."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch

from vcvae.convert.converter import Converter
from vcvae.convert.encoder import Recording
from vcvae.models.conversion.voice import Voice

MAX_TARGETS = 8  # recordings of the target whose first half minutes are compared with


@torch.inference_mode()
def speaker_similarity(converter: Converter, voices: Iterable[Voice], targets: Iterable[Recording]) -> list[float]:
    """The mean cosine of conversions' embeddings with that of `targets`, for each of several voices of one speaker.

    Some sentences of the package are converted. Of learned voices the cosine is higher than by other networks, since
    fine-tuning optimizes this one, on these sentences. Without losses for the converter's mel, the result is empty.
    """
    losses = converter.losses
    references = converter.load_sources(islice(targets, MAX_TARGETS)) if losses else []
    if not references:
        return []
    target_embedding = losses.speaker_embedding([reference.mel for reference in references])
    similarities = []
    for voice in map(converter.fitted, voices):
        cosines = []
        for mel in converter.sample_mels:
            f0 = converter.model.target_f0(mel, voice)
            samples = losses.synthesize(converter.model.convert(mel, voice, target_f0=f0), f0)
            cosines.append(float(losses.speaker_embedding([losses.analysis(samples)]) @ target_embedding))
        similarities.append(sum(cosines) / len(cosines))
    return similarities
