"""Vocos (Siuzdak 2023, arXiv:2306.00814): a network at the frame rate predicts spectra, an inverse STFT the samples."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.errors import VcvaeError
from vcvae.features.mel import MelSpectrogram
from vcvae.features.stft import inverse
from vcvae.models.hub import build, fetch, read_checkpoint
from vcvae.vocoder.adapters.vocos_config import BackboneConfig, HeadConfig, VocosConfig
from vcvae.vocoder.base import Vocoder

VOCOS_CONFIG, VOCOS_WEIGHTS = "config.yaml", "pytorch_model.bin"
MAX_MAGNITUDE = 100.0  # the largest magnitude of a bin, as the checkpoints were trained


class Vocos(Vocoder):
    """ConvNeXt blocks at the frame rate, and the inverse STFT of the spectra that they predict.

    The parameters are named as in the checkpoints.

    Checkpoints with the padding "same" have the time axis of `Vocoder`. With "center", frame t is centred on sample
    t * hop, and F frames give (F - 1) * hop samples; here half a hop more is kept at both ends, so that the time axis
    is the same. These ends (6 ms at 22.05 kHz) were not part of the training loss.

    Raises:
        VcvaeError: a mel that a `MelConfig` cannot describe.
    """

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.mel_config = config.mel
        self.backbone = VocosBackbone(config.backbone)
        self.head = ISTFTHead(config.head)

    def forward(self, mel: Tensor) -> Tensor:
        """Ln-mel (batch, n_mels, frames) → samples (batch, frames * hop)."""
        return self.head(self.backbone(mel))

    @classmethod
    def load(cls, source: str | Path) -> Vocos:
        """A public checkpoint: a folder or a Hugging Face repository that holds config.yaml and pytorch_model.bin.

        Raises:
            VcvaeError: nothing is found there; not a Vocos of mels; a mel that a `MelConfig` cannot describe;
                weights that do not fit, or that were trained with another mel or window than config.yaml says.
        """
        give = f"a Vocos checkpoint, {VOCOS_CONFIG} and {VOCOS_WEIGHTS}"
        config_file = fetch(source, VOCOS_CONFIG, give=give)
        config = VocosConfig.load(config_file)
        try:
            constants = _constants(config)
        except VcvaeError as error:
            raise VcvaeError(f"{config_file}: {error}") from None
        weights_file = fetch(source, VOCOS_WEIGHTS, give=give)  # large, so only now that the config is accepted
        weights = read_checkpoint(weights_file, of="a Vocos checkpoint")
        for name, ours in constants.items():
            theirs = weights.pop(name, ours)
            if theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours, rtol=1e-3, atol=1e-5):
                raise VcvaeError(
                    f"{weights_file}: '{name}' is another than {VOCOS_CONFIG} describes; "
                    f"use the {VOCOS_CONFIG} that it was trained with."
                )
        return build(lambda: cls(config), weights, path=weights_file, config=VOCOS_CONFIG)


def _constants(config: VocosConfig) -> dict[str, Tensor]:
    """What a checkpoint holds besides parameters, by name: the mel's window and filters, the output's window."""
    mel = MelSpectrogram(config.mel)
    return {
        "feature_extractor.mel_spec.spectrogram.window": mel.window,
        "feature_extractor.mel_spec.mel_scale.fb": mel.filters.T,
        "head.istft.window": torch.hann_window(config.head.n_fft),
    }


class VocosBlock(nn.Module):
    """A ConvNeXt block (Liu et al. 2022, arXiv:2201.03545) on (batch, dim, frames).

    x + γ · W₂ GELU(W₁ norm(depthwise convolution)).
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        dim, inner = config.dim, config.intermediate_dim
        self.dwconv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1 / config.num_layers))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).transpose(1, 2))
        return x + (self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))).transpose(1, 2)


class VocosBackbone(nn.Module):
    """Ln-mel (batch, input_channels, frames) → (batch, frames, dim)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.embed = nn.Conv1d(config.input_channels, config.dim, 7, padding=3)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.convnext = nn.Sequential(*(VocosBlock(config) for _ in range(config.num_layers)))
        self.final_layer_norm = nn.LayerNorm(config.dim, eps=1e-6)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.norm(self.embed(mel).transpose(1, 2)).transpose(1, 2)
        return self.final_layer_norm(self.convnext(x).transpose(1, 2))


class ISTFTHead(nn.Module):
    """(batch, frames, dim) → log-magnitudes and phases → samples (batch, frames * hop_length).

    Spectrum t is centred on sample t * hop_length + hop_length / 2.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.hop = config.hop_length
        self.out = nn.Linear(config.dim, config.n_fft + 2)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        log_magnitude, phase = self.out(x).chunk(2, dim=-1)
        return inverse(torch.polar(log_magnitude.exp().clamp(max=MAX_MAGNITUDE), phase), self.window, self.hop)
