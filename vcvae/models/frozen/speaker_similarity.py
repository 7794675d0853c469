"""The speaker encoder of the speaker similarity loss: a speaker verification network that takes log-mels."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.errors import VcvaeError
from vcvae.features.fbank import FBANK_BANDS, FBANK_HOP, FBANK_SAMPLE_RATE
from vcvae.features.mel import MelConfig
from vcvae.models.frozen.ecapa import EcapaTrunk, EcapaTrunkConfig
from vcvae.models.hub import PretrainedModel

CONTEXT_FRAMES = 2  # mel frames on either side from which a frame of the filter bank is predicted


class SpeakerSimilarityNetConfig(EcapaTrunkConfig):
    """The sizes of the network, and the mel that it takes."""

    mel: MelConfig = Field(MelConfig(), description="of its input")


class SpeakerSimilarityNet(PretrainedModel, config=SpeakerSimilarityNetConfig):
    """Log-mel → speaker embedding of unit length, differentiably.

    A public ECAPA-TDNN, whose filter bank is predicted from the mel by one linear layer. The loss uses the pooled
    statistics (6,144 of the public network), not the final embedding: optimizing the embedding did not transfer to
    other verification networks. (Features of inner layers make the better loss for images, too: Johnson et al. 2016,
    arXiv:1603.08155.)

    Example:
        >>> import torch
        >>> SpeakerSimilarityNet(SpeakerSimilarityNetConfig(channels=16, bottleneck=8))(torch.randn(2, 80, 200)).shape
        torch.Size([2, 96])
    """

    def __init__(self, config: SpeakerSimilarityNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or SpeakerSimilarityNetConfig()
        self.bands = nn.Conv1d(self.config.mel.n_mels, FBANK_BANDS, 2 * CONTEXT_FRAMES + 1)
        self.network = EcapaTrunk(self.config)

    @property
    def outputs(self) -> int:
        """The number of statistics."""
        return 6 * self.config.channels

    def forward(self, mel: Tensor) -> Tensor:
        """Mel (batch, n_mels, frames) → (batch, 6 · channels) of unit length.

        It is invariant to the gain, and to a gain for each band, as of a microphone.

        Raises:
            VcvaeError: another number of bands.
        """
        if mel.ndim != 3 or mel.shape[1] != self.config.mel.n_mels:
            raise VcvaeError(f"a mel must be (batch, {self.config.mel.n_mels}, frames), not {tuple(mel.shape)}.")
        return F.normalize(self.network(self.bands(self.resample_frames(mel))), dim=-1)

    def resample_frames(self, mel: Tensor) -> Tensor:
        """Mel (batch, n_mels, frames) → the same at the frame rate of the filter bank, padded by `CONTEXT_FRAMES`."""
        config = self.config.mel
        step = FBANK_HOP / FBANK_SAMPLE_RATE
        frames = 1 + int(mel.shape[2] * config.hop / config.sample_rate / step)
        seconds = torch.arange(frames, device=mel.device) * step
        # Frame t of the mel is centred on sample (t + 1 / 2) · hop.
        position = (seconds * config.frame_rate - 0.5).clamp(0, mel.shape[2] - 1)
        before = position.long().clamp(max=max(mel.shape[2] - 2, 0))
        after = (before + 1).clamp(max=mel.shape[2] - 1)
        weight = (position - before).to(mel)
        return F.pad(
            mel[..., before] * (1 - weight) + mel[..., after] * weight,
            (CONTEXT_FRAMES, CONTEXT_FRAMES),
            mode="replicate",
        )
