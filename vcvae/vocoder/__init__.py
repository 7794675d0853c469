"""Vocoders: one interface, mel → waveform, and the table of those that can be named."""

from __future__ import annotations

from collections.abc import Callable

from vcvae.defaults import SEEDED_VOCODER
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.pretrained import VOCODER
from vcvae.torch_state import own_torch_state
from vcvae.vocoder.adapters.bigvgan import BigVGAN
from vcvae.vocoder.adapters.hifigan import HiFiGAN, HiFiGANConfig
from vcvae.vocoder.adapters.vocos import Vocos
from vcvae.vocoder.base import Vocoder
from vcvae.vocoder.griffin_lim import GriffinLim
from vcvae.vocoder.source_filter import SourceFilterVocoder, SourceFilterVocoderConfig

__all__ = [
    "DEFAULT_VOCODER",
    "BigVGAN",
    "GriffinLim",
    "HiFiGAN",
    "HiFiGANConfig",
    "SourceFilterVocoder",
    "SourceFilterVocoderConfig",
    "Vocoder",
    "Vocos",
    "load_vocoder",
]

DEFAULT_VOCODER = "source-filter"

# Name, as on the command line → what makes it from the text after the colon, the mel configuration and the seed.
_VOCODERS: dict[str, Callable[[str, MelConfig, int], Vocoder]] = {
    "source-filter": lambda source, mel, seed: SourceFilterVocoder.from_pretrained(VOCODER),
    "source-filter:SOURCE": lambda source, mel, seed: SourceFilterVocoder.from_pretrained(source),
    SEEDED_VOCODER: lambda source, mel, seed: GriffinLim(mel, seed=seed),
    "hifigan:PATH": lambda source, mel, seed: HiFiGAN.load(source),
    "vocos:SOURCE": lambda source, mel, seed: Vocos.load(source),
    "bigvgan:SOURCE": lambda source, mel, seed: BigVGAN.load(source),
}


@own_torch_state()
def load_vocoder(name: str | None = None, mel: MelConfig | None = None, *, seed: int = 0) -> Vocoder:
    """The vocoder of this name, for mels of the configuration `mel`; by default the released one.

    `source-filter` is the released one, `source-filter:SOURCE` another of its class, in a folder or a Hugging Face
    repository. `griffin-lim` has no weights; `seed` is that of its initial phases. `hifigan:PATH` is a checkpoint in
    the authors' format: a generator file with config.json beside it, or the folder of both. `vocos:SOURCE` and
    `bigvgan:SOURCE` are public checkpoints, in a folder or a Hugging Face repository; the second needs
    `pip install bigvgan`.

    Raises:
        VcvaeError: an unknown name; a checkpoint that cannot be read, or that was made for another mel.

    Example:
        >>> import torch
        >>> load_vocoder("griffin-lim")(torch.zeros(1, 80, 20)).shape
        torch.Size([1, 5120])
    """
    name = DEFAULT_VOCODER if name is None else name
    mel = mel or MelConfig()
    kind, colon, source = name.partition(":")
    for key, make in _VOCODERS.items():
        key_kind, key_colon, _ = key.partition(":")
        if key_kind == kind and key_colon == colon and bool(source) == bool(colon):
            vocoder = make(source, mel, seed)
            vocoder.mel_config.require_equal(mel, ours=f"the vocoder {name}", theirs="the model")
            return vocoder
    raise VcvaeError(f"there is no vocoder '{name}'; give {', '.join(_VOCODERS)}.")
