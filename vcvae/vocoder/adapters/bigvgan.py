"""BigVGAN (Lee et al. 2023, arXiv:2206.04658), for its public checkpoints, through its authors' package `bigvgan`."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.models.hub import build, fetch, read_checkpoint
from vcvae.vocoder.adapters.hifigan import HiFiGANConfig, fold_weight_norm
from vcvae.vocoder.base import Vocoder

BIGVGAN_CONFIG, BIGVGAN_WEIGHTS = "config.json", "bigvgan_generator.pt"


class BigVGANConfig(HiFiGANConfig):
    """The authors' config.json: HiFi-GAN's keys, and those of the activations. The mel is of HiFi-GAN's kind, too."""

    family: ClassVar[str] = "BigVGAN"

    activation: Literal["snake", "snakebeta"] = Field("snakebeta", description="x + sin²(αx) / α, or / β")
    snake_logscale: bool = Field(True, description="α and β are stored as logarithms")


class BigVGAN(Vocoder):
    """The generator of the package `bigvgan`, without weight normalization and without its CUDA kernel.

    Example:
        >>> BigVGAN.load("nvidia/bigvgan_v2_22khz_80band_fmax8k_256x")  # doctest: +SKIP
    """

    def __init__(self, generator: nn.Module, mel_config: MelConfig) -> None:
        super().__init__()
        self.generator, self.mel_config = generator, mel_config

    def forward(self, mel: Tensor) -> Tensor:
        """Ln-mel (batch, n_mels, frames) → samples (batch, frames * hop) in [-1, 1]."""
        return self.generator(mel).squeeze(1)

    @classmethod
    def load(cls, source: str | Path) -> BigVGAN:
        """A public checkpoint: a folder or a Hugging Face repository that holds config.json and bigvgan_generator.pt.

        Raises:
            VcvaeError: the package is not installed; nothing is found there; not a BigVGAN, or weights that do not
                fit its config.json.
        """
        try:
            import bigvgan
        except ImportError as error:
            raise VcvaeError(f"{source}: BigVGAN's own package is needed ({error}); pip install bigvgan.") from None
        give = f"a BigVGAN checkpoint, {BIGVGAN_CONFIG} and {BIGVGAN_WEIGHTS}"
        config_file = fetch(source, BIGVGAN_CONFIG, give=give)
        mel = BigVGANConfig.load(config_file).mel

        def make() -> nn.Module:
            generator = bigvgan.BigVGAN(bigvgan.load_hparams_from_json(config_file), use_cuda_kernel=False)
            generator.remove_weight_norm()
            return generator

        weights_file = fetch(source, BIGVGAN_WEIGHTS, give=give)
        weights = fold_weight_norm(read_checkpoint(weights_file, of="a BigVGAN generator", key="generator"))
        # The package's own from_pretrained (2.4.1) fails with huggingface_hub 2.4. The warning of a
        # deprecated function and a print are suppressed: a user can do nothing about them.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore", FutureWarning)
            return cls(build(make, weights, path=weights_file, config=BIGVGAN_CONFIG), mel).eval()
