"""Whom a mel sounds like: what a speaker verification network hears, within reach of a gradient."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.models.frozen import ecapa
from vcvae.models.frozen.ecapa import EcapaTrunk, EcapaTrunkConfig
from vcvae.models.hub import PretrainedModel

AROUND = 2  # frames on either side from which a frame of the filter bank is foretold


class SpeakerSimilarityNetConfig(EcapaTrunkConfig):
    """The sizes of a listener, and the mel that it hears."""

    mel: MelConfig = MelConfig()
    packed: bool = Field(True, description="whether two weights share a byte")


class SpeakerSimilarityNet(PretrainedModel, config=SpeakerSimilarityNetConfig):
    """Log-mel → how who speaks there sounds to a verification network, as a vector of unit length.

    Networks that tell thousands of speakers apart were made from more voices than a converter ever hears, but they want
    waveforms, and are large. This is one of them, an ECAPA-TDNN, with packed weights; its filter bank is foretold from
    the mel. Its last layer is left out: a decoder soon pleases that, and no other network; the thousands of statistics
    that it judges by are not pleased so easily, and are what other networks hear, too. (That the layers before are the
    better judges holds for images as well: Johnson et al. 2016, arXiv:1603.08155.)

    Example:
        >>> import torch
        >>> SpeakerSimilarityNet(SpeakerSimilarityNetConfig(channels=16, bottleneck=8))(torch.randn(2, 80, 200)).shape
        torch.Size([2, 96])
    """

    def __init__(self, config: SpeakerSimilarityNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or SpeakerSimilarityNetConfig()
        self.bands = nn.Conv1d(self.config.mel.n_mels, ecapa.BANDS, 2 * AROUND + 1)
        self.network = EcapaTrunk(self.config)

    def forward(self, mel: Tensor) -> Tensor:
        """Mel (batch, n_mels, frames) → (batch, 6 · channels) of unit length.

        Neither the level nor the levels of single bands change anything: a microphone is nobody's voice.

        Raises:
            VcvaeError: another number of bands.
        """
        if mel.ndim != 3 or mel.shape[1] != self.config.mel.n_mels:
            raise VcvaeError(f"a mel must be (batch, {self.config.mel.n_mels}, frames), not {tuple(mel.shape)}.")
        return F.normalize(self.network(self.bands(self.retimed(mel))), dim=-1)

    def retimed(self, mel: Tensor) -> Tensor:
        """Mel (batch, n_mels, frames) → the same at the filter bank's times, `AROUND` frames longer at either end."""
        c, step = self.config.mel, ecapa.HOP / ecapa.SAMPLE_RATE
        seconds = torch.arange(1 + int(mel.shape[2] * c.hop / c.sample_rate / step), device=mel.device) * step
        # Frame t of the mel is centred on sample (t + 1 / 2) · hop.
        place = (seconds * c.frame_rate - 0.5).clamp(0, mel.shape[2] - 1)
        before = place.long().clamp(max=max(mel.shape[2] - 2, 0))
        after = (before + 1).clamp(max=mel.shape[2] - 1)
        share = (place - before).to(mel)
        return F.pad(mel[..., before] * (1 - share) + mel[..., after] * share, (AROUND, AROUND), mode="replicate")
