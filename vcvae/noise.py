"""Steady noise: what a recording of a voice holds that is not the voice.

A decoder that learns a voice from a few seconds learns their hiss as well, and says everything with it.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

QUIET = 0.1  # share of the frames, the quietest, that are taken for the noise alone
FEWEST = 5  # … but so many of them, 58 ms
SMOOTH = 5  # frames over which the power is averaged before it is compared to the noise's
MOST = 12.0  # dB that are taken away; more would leave holes where soft speech was


def without_noise(mel: Tensor) -> Tensor:
    """Log-mels (batch, n_mels, frames) without what is as loud in pauses: spectral subtraction of the power.

    Boll 1979 (doi:10.1109/TASSP.1979.1163209), band by band, by at most 12 dB, and never below the mel's own least
    value. A recording whose quietest frames are far below its speech stays as it is.
    """
    power = (2 * mel).exp()
    quiet = power.sum(dim=1).argsort(dim=1)[:, : max(FEWEST, math.ceil(QUIET * mel.shape[2]))]
    noise = power.gather(2, quiet[:, None].expand(-1, mel.shape[1], -1)).mean(dim=2, keepdim=True)
    margin = SMOOTH // 2
    smooth = F.avg_pool1d(F.pad(power, (margin, margin), mode="replicate"), SMOOTH, stride=1)
    kept = (1 - noise / smooth).clamp(min=10 ** (-MOST / 10))
    return (mel + kept.log() / 2).maximum(mel.amin(dim=(1, 2), keepdim=True))
