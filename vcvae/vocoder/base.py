"""The interface of all vocoders."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from vcvae.features.f0 import F0Contour
from vcvae.features.mel import MelConfig


class Vocoder(nn.Module):
    """Ln-mels to waveforms. `mel_config` is the mel that it takes, which gives the rate and hop of its output.

    Mel frame t is centred on output sample `t * hop + hop / 2`, as in `MelSpectrogram`: a waveform, its mel and the
    output for that mel are aligned.
    """

    mel_config: MelConfig

    def forward(self, mel: Tensor) -> Tensor:
        """Ln-mel (batch, n_mels, frames) → samples (batch, frames * hop) at `mel_config.sample_rate`."""
        raise NotImplementedError

    def synthesize(self, mel: Tensor, f0: F0Contour) -> Tensor:
        """The same with a given F0, (batch, ceil(frames / 2)), for vocoders that use one."""
        return self(mel)

    @property
    def device(self) -> torch.device:
        """Where it computes: a vocoder has parameters, or buffers such as windows, or both."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    def for_predicted_mels(self) -> Vocoder:
        """This vocoder with its post-processing for predicted mels, if it has one; both share all tensors."""
        return self
