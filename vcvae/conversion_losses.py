"""Two frozen networks that score a conversion without a reference: a speaker encoder and an ASR encoder.

The first measures the similarity to the target, the second whether the content is the source's.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.features.f0 import F0Contour
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.models.frozen.content import ContentNet
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet
from vcvae.models.hub import describe
from vcvae.pretrained import CONTENT, SPEAKER_SIMILARITY, VOCODER
from vcvae.vocoder import SourceFilterVocoder

MAX_MASKED = 4  # `spec_augment` masks up to one in so many of the bands, and of the frames


class ConversionLosses(nn.Module):
    """The speaker similarity loss and the content loss of synthesized conversions.

    Both are computed from the vocoder's output, whose mel differs from the mel that it is given. Use both: the speaker
    loss alone yields unintelligible speech, the content loss alone keeps the source's voice.
    """

    def __init__(
        self, speaker_net: SpeakerSimilarityNet, content_net: ContentNet, vocoder: SourceFilterVocoder
    ) -> None:
        """
        Args:
            speaker_net: the speaker encoder; its parameters are frozen, as are those of the other two.
            content_net: the ASR encoder.
            vocoder: used as for predicted mels; its weights are shared, not copied.

        Raises:
            VcvaeError: they are made for different mels.
        """
        super().__init__()
        speaker_net.config.mel.require_equal(vocoder.mel_config, ours="the speaker network", theirs="the vocoder")
        self.mel_config = speaker_net.config.mel
        self.speaker_net = speaker_net
        self.content_net = content_net
        self.vocoder = vocoder.for_predicted_mels()
        self.analysis = MelSpectrogram(self.mel_config)
        self.eval().requires_grad_(False)

    def synthesize(self, mel: Tensor, f0: F0Contour) -> Tensor:
        """Ln-mel (1, n_mels, frames) and F0 (1, ceil(frames / 2)) → samples (1, frames * hop), differentiably."""
        return self.vocoder.synthesize_for_training(mel, f0)

    def speaker_embedding(self, mels: list[Tensor]) -> Tensor:
        """The mean speaker embedding of ln-mels (1, n_mels, frames), (6 · channels,) of unit length."""
        return F.normalize(torch.cat([self.speaker_net(mel) for mel in mels]).mean(dim=0), dim=0)

    def speaker_loss(self, converted: Tensor, target: Tensor) -> Tensor:
        """1 - the cosine of the embeddings of samples (1, samples), masked at random, and of a target (6 · channels,).

        A speaker-consistency loss, as in YourTTS (Casanova et al. 2022, arXiv:2112.02418).
        """
        return 1 - (self.speaker_net(spec_augment(self.analysis(converted)))[0] * target).sum()

    def asr_features(self, samples: Tensor) -> Tensor:
        """Samples (1, samples) → the features that `content_loss` compares, (1, channels, frames)."""
        return self.content_net(samples)

    def content_loss(self, converted: Tensor, source_features: Tensor) -> Tensor:
        """The distance of samples' (1, samples) ASR features from a source's, time-aligned: 0 for the same content.

        An ASR-consistency loss, as in StarGANv2-VC (Li et al. 2021, arXiv:2107.10394).
        """
        return self.content_net.distance(self.content_net(converted), source_features)


def spec_augment(mel: Tensor) -> Tensor:
    """Ln-mel (1, n_mels, frames) with a random range of bands, and one of frames, set to each band's mean.

    Fine-tuning overfits to single bands of a speaker encoder, and other verification networks do not agree; so bands
    and frames are masked at random (SpecAugment: Park et al. 2019, arXiv:1904.08779).
    """
    mean = mel.mean(dim=2, keepdim=True)
    kept = torch.ones_like(mel)
    for dim in (1, 2):
        size = mel.shape[dim]
        width = int(torch.randint(size // MAX_MASKED + 1, ()))
        kept.narrow(dim, int(torch.randint(size - width + 1, ())), width).zero_()
    return mean + (mel - mean) * kept


def load_losses(
    mel: MelConfig,
    *,
    speaker_net: str | Path | None = None,
    content_net: str | Path | None = None,
    vocoder: SourceFilterVocoder | str | Path | None = None,
) -> ConversionLosses | None:
    """The losses of saved networks, by default the released ones; None for a mel that these are not made for.

    Args:
        mel: of the model that is trained or fine-tuned.
        speaker_net: folder or repository of a `SpeakerSimilarityNet`.
        content_net: of a `ContentNet`.
        vocoder: of a `SourceFilterVocoder`, or one that is loaded already.

    Raises:
        VcvaeError: a network is not found, or is none of these.
    """
    speaker_net = speaker_net or SPEAKER_SIMILARITY
    if MelConfig(**describe(speaker_net)[1].get("mel", {})) != mel:
        return None
    if not isinstance(vocoder, SourceFilterVocoder):
        vocoder = SourceFilterVocoder.from_pretrained(vocoder or VOCODER)
    return ConversionLosses(
        SpeakerSimilarityNet.from_pretrained(speaker_net), ContentNet.from_pretrained(content_net or CONTENT), vocoder
    )
