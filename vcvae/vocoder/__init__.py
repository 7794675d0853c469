"""One interface, mel → waveform, and the table of what stands behind it."""

from __future__ import annotations

from collections.abc import Callable

from vcvae.errors import VcvaeError
from vcvae.mel import MelConfig
from vcvae.vocoder.base import Vocoder
from vcvae.vocoder.griffin_lim import GriffinLim
from vcvae.vocoder.hifigan import HiFiGAN, HiFiGANConfig

__all__ = ["GriffinLim", "HiFiGAN", "HiFiGANConfig", "Vocoder", "load_vocoder"]

# As it is written on a command line, and how it is made of the path, the mel and the seed.
_VOCODERS: dict[str, Callable[[str, MelConfig, int], Vocoder]] = {
    "griffin-lim": lambda path, mel, seed: GriffinLim(mel, seed=seed),
    "hifigan:PATH": lambda path, mel, seed: HiFiGAN.load(path),
}


def load_vocoder(name: str, mel: MelConfig, *, seed: int = 0) -> Vocoder:
    """The vocoder that `name` means, for mels of the configuration `mel`.

    `griffin-lim` needs no weights. `hifigan:PATH` is a checkpoint in the authors' format: a generator file
    with config.json beside it, or the folder that holds the two. `seed` is for those that draw phases.

    Raises:
        VcvaeError: an unknown name; a checkpoint that cannot be read, or that was made for another mel.

    Example:
        >>> import torch
        >>> load_vocoder("griffin-lim", MelConfig())(torch.zeros(1, 80, 20)).shape
        torch.Size([1, 5120])
    """
    kind, _, path = name.partition(":")
    key = f"{kind}:PATH" if path else kind
    if key not in _VOCODERS:
        raise VcvaeError(f"there is no vocoder '{name}'; give {' or '.join(_VOCODERS)}.")
    vocoder = _VOCODERS[key](path, mel, seed)
    vocoder.mel_config.require_equal(mel, ours=f"the vocoder {name}", theirs="the model")
    return vocoder
