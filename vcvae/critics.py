"""Who judges a conversion, of which nobody knows what it should be: one who hears voices, and one who reads words."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.mel import MelConfig, MelSpectrogram
from vcvae.models import RELEASED
from vcvae.models.listener import Listener
from vcvae.models.reader import Reader
from vcvae.pitch import Pitch
from vcvae.vocoder import RELEASED as VOCODER
from vcvae.vocoder import NeuralVocoder

GAP = 4  # the widest gap in what the listener hears is one in so many of the bands, and of the frames


class Critics(nn.Module):
    """A listener and a reader, frozen, and the vocoder that speaks for both.

    What is judged is what will be heard: no vocoder makes just the mel that it is asked for. Each critic alone is
    easily pleased: who is to sound like the target mumbles, and who is to be understood stays the source.
    """

    def __init__(self, listener: Listener, reader: Reader, vocoder: NeuralVocoder) -> None:
        """Raises:
        VcvaeError: they are made for different mels.
        """
        super().__init__()
        listener.config.mel.require_equal(vocoder.mel_config, ours="the listener", theirs="its vocoder")
        self.mel_config = listener.config.mel
        self.listener, self.reader, self.vocoder = listener, reader, vocoder.for_estimates()
        self.analysis = MelSpectrogram(self.mel_config)
        self.eval().requires_grad_(False)

    def speak(self, mel: Tensor, pitch: Pitch) -> Tensor:
        """Log-mel (1, n_mels, frames) at a pitch (1, ceil(frames / 2)) → samples (1, frames * hop) to be judged."""
        return self.vocoder.sketch(mel, pitch)

    def voice(self, mels: list[Tensor]) -> Tensor:
        """How log-mels (1, n_mels, frames) of a speaker sound, together: (6 · channels,) of unit length."""
        return F.normalize(torch.cat([self.listener(mel) for mel in mels]).mean(dim=0), dim=0)

    def unlike(self, spoken: Tensor, voice: Tensor) -> Tensor:
        """1 less the cosine of how samples (1, samples) sound and of a voice (6 · channels,); heard through gaps."""
        return 1 - (self.listener(with_gaps(self.analysis(spoken)))[0] * voice).sum()

    def misread(self, spoken: Tensor, meant: Tensor) -> Tensor:
        """How far samples (1, samples) are from saying what others, as long, do."""
        return self.reader.misread(spoken, meant)


def with_gaps(mel: Tensor) -> Tensor:
    """Log-mel (1, n_mels, frames) in which some bands, and for some time all of them, only stay at their mean.

    What pleases the listener in one place alone is not what another would call the voice, and such places are found
    soon by whoever learns to please; so where it hears nothing is drawn anew (as in SpecAugment, Park et al. 2019,
    arXiv:1904.08779).
    """
    mean, kept = mel.mean(dim=2, keepdim=True), torch.ones_like(mel)
    for dim in (1, 2):
        size = mel.shape[dim]
        width = int(torch.randint(size // GAP + 1, ()))
        kept.narrow(dim, int(torch.randint(size - width + 1, ())), width).zero_()
    return mean + (mel - mean) * kept


def load_critics(mel: MelConfig) -> Critics | None:
    """Those that ship, where they hear this `mel`."""
    listener = Listener.from_pretrained(RELEASED.with_name("listener"))
    if listener.config.mel != mel:
        return None
    reader = Reader.from_pretrained(RELEASED.with_name("reader"))
    return Critics(listener, reader, NeuralVocoder.from_pretrained(VOCODER))
