"""Who held_out a conversion, of which nobody knows what it should be: one who hears voices, and one who reads words."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.features.f0 import F0Contour
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.models.frozen.content import ContentNet
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet
from vcvae.pretrained import CONTENT, SPEAKER_SIMILARITY, VOCODER
from vcvae.vocoder import SourceFilterVocoder

MAX_MASKED = 4  # the widest gap in what the speaker_net hears is one in so many of the bands, and of the frames


class ConversionLosses(nn.Module):
    """A speaker_net and a content_net, frozen, and the vocoder that speaks for both.

    What is judged is what will be heard: no vocoder makes just the mel that it is asked for. Each losses alone is
    easily pleased: who is to sound like the target mumbles, and who is to be understood stays the source.
    """

    def __init__(
        self, speaker_net: SpeakerSimilarityNet, content_net: ContentNet, vocoder: SourceFilterVocoder
    ) -> None:
        """Raises:
        VcvaeError: they are made for different mels.
        """
        super().__init__()
        speaker_net.config.mel.require_equal(vocoder.mel_config, ours="the speaker_net", theirs="its vocoder")
        self.mel_config = speaker_net.config.mel
        self.speaker_net, self.content_net, self.vocoder = speaker_net, content_net, vocoder.for_predicted_mels()
        self.analysis = MelSpectrogram(self.mel_config)
        self.eval().requires_grad_(False)

    def synthesize(self, mel: Tensor, f0: F0Contour) -> Tensor:
        """Log-mel (1, n_mels, frames) at a f0 (1, ceil(frames / 2)) → samples (1, frames * hop) to be judged."""
        return self.vocoder.synthesize_for_training(mel, f0)

    def voice(self, mels: list[Tensor]) -> Tensor:
        """How log-mels (1, n_mels, frames) of a speaker sound, together: (6 · channels,) of unit length."""
        return F.normalize(torch.cat([self.speaker_net(mel) for mel in mels]).mean(dim=0), dim=0)

    def speaker_loss(self, spoken: Tensor, voice: Tensor) -> Tensor:
        """1 less the cosine of how samples (1, samples) sound and of a voice (6 · channels,); heard through gaps."""
        return 1 - (self.speaker_net(spec_augment(self.analysis(spoken)))[0] * voice).sum()

    def content_loss(self, spoken: Tensor, meant: Tensor) -> Tensor:
        """How far samples (1, samples) are from saying what others, as long, do."""
        return self.content_net.content_loss(spoken, meant)


def spec_augment(mel: Tensor) -> Tensor:
    """Log-mel (1, n_mels, frames) in which some bands, and for some time all of them, only stay at their mean.

    What pleases the speaker_net in one place alone is not what another would call the voice, and such places are found
    soon by whoever learns to please; so where it hears nothing is drawn anew (as in SpecAugment, Park et al. 2019,
    arXiv:1904.08779).
    """
    mean, kept = mel.mean(dim=2, keepdim=True), torch.ones_like(mel)
    for dim in (1, 2):
        size = mel.shape[dim]
        width = int(torch.randint(size // MAX_MASKED + 1, ()))
        kept.narrow(dim, int(torch.randint(size - width + 1, ())), width).zero_()
    return mean + (mel - mean) * kept


def load_losses(mel: MelConfig) -> ConversionLosses | None:
    """Those that ship, where they hear this `mel`."""
    speaker_net = SpeakerSimilarityNet.from_pretrained(SPEAKER_SIMILARITY)
    if speaker_net.config.mel != mel:
        return None
    content_net = ContentNet.from_pretrained(CONTENT)
    return ConversionLosses(speaker_net, content_net, SourceFilterVocoder.from_pretrained(VOCODER))
