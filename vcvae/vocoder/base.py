"""What every vocoder is."""

from __future__ import annotations

from torch import Tensor, nn

from vcvae.features.f0 import F0Contour
from vcvae.features.mel import MelConfig


class Vocoder(nn.Module):
    """Ln-mels to waveforms. `mel_config` says which mel it takes, and so the rate and hop of its output.

    Mel frame t is centred on output sample `t * hop + hop / 2`, as in `MelSpectrogram`: a waveform, its mel
    and that mel's waveform lie on one time axis.
    """

    mel_config: MelConfig

    def forward(self, mel: Tensor) -> Tensor:
        """Ln-mel (batch, n_mels, frames) → samples (batch, frames * hop) at `mel_config.sample_rate`."""
        raise NotImplementedError

    def synthesize(self, mel: Tensor, f0: F0Contour) -> Tensor:
        """The same, for vocoders that find the f0 in the mel: here it is known, (batch, ceil(frames / 2))."""
        return self(mel)

    def for_predicted_mels(self) -> Vocoder:
        """The vocoder as it does best on mels that a model made: this one, where that makes no difference."""
        return self
