"""The features of a frozen speech recognizer as a second input of the content encoder.

The recognizer has heard a thousand times more speech than a conversion model, and knows better what is said. It also
knows who speaks; so the content encoder normalizes its features as it does mels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.models.conversion.config import REDUCTION, DisentanglingConfig
from vcvae.models.frozen.content import ContentNet
from vcvae.models.frozen.moonshine import MIN_SAMPLES, MOONSHINE_HOP, MOONSHINE_SAMPLE_RATE

LEVEL = 0.05  # RMS of the samples that the recognizer gets
MOMENTS = (0, 2)  # of a content frame whose features the content encoder takes, in mel frames from its first


def asr_features(net: ContentNet, samples: Tensor, mel: MelConfig) -> Tensor:
    """Samples (batch, samples) → what the content encoder takes, (batch, ceil(frames / 4), 2 · channels)."""
    level = samples.square().mean(dim=1, keepdim=True).sqrt()
    features = net(samples * (LEVEL / level.clamp(min=1e-4)))
    return at_content_frames(features, -(-samples.shape[1] // mel.hop), mel)


def at_content_frames(features: Tensor, frames: int, mel: MelConfig) -> Tensor:
    """A recognizer's features (batch, channels, …) of samples of so many mel frames → (batch, ceil(frames / 4), …).

    Interpolated linearly at two moments of each content frame, 2 · channels.
    """
    first = torch.arange(0, frames, REDUCTION, device=features.device)[:, None]
    seconds = (first + torch.tensor(MOMENTS, device=features.device)) * mel.hop / mel.sample_rate
    position = (seconds * MOONSHINE_SAMPLE_RATE - (MIN_SAMPLES - 1) / 2) / MOONSHINE_HOP
    position = position.clamp(0, features.shape[2] - 1)
    before = position.long()
    after = (before + 1).clamp(max=features.shape[2] - 1)
    return torch.lerp(features.mT[:, before], features.mT[:, after], (position - before)[..., None]).flatten(2)


def check_recognizer(net: ContentNet, config: DisentanglingConfig) -> None:
    """Check that a model takes the features of this recognizer.

    Raises:
        VcvaeError: it takes those of another one.
    """
    if (net.config.channels, net.config.sample_rate) != (config.asr_channels, config.mel.sample_rate):
        raise VcvaeError(
            f"the model takes {config.asr_channels} ASR features of speech of {config.mel.sample_rate} Hz; the "
            f"recognizer gives {net.config.channels} of {net.config.sample_rate} Hz."
        )
