"""The config.yaml of a Vocos, and the mel that follows from it.

The authors' package, vocos, has one kind of mel: HTK's scale, bands of equal height, floor 1e-7. A `MelConfig` cannot
describe it, and its checkpoints, such as charactr/vocos-mel-24khz, are refused. The branch `matcha` of
langtech-bsc/vocos has HiFi-GAN's mel if its keys `mel_scale` and `norm` are both slaney; its checkpoints, such as
BSC-LT/vocos-mel-22khz, are supported. The floor is not in the file: that branch's code has 1e-5, which is assumed, so a
checkpoint trained with another floor is not detected. A missing key has the default of vocos or torchaudio; a wrong
default would show in the filters stored with the weights, which `Vocos.load` compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from vcvae.config import Config, read_yaml
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig

CLASSES = {
    "feature_extractor": "vocos.feature_extractors.MelSpectrogramFeatures",
    "backbone": "vocos.models.VocosBackbone",
    "head": "vocos.heads.ISTFTHead",
}
SLANEY_MEL = {"mel_scale": "slaney", "norm": "slaney", "power": 1.0}  # of every `MelConfig`


class FeaturesConfig(Config):
    """The mel."""

    sample_rate: int = Field(24000, gt=0, le=384_000, description="Hz")
    n_fft: int = Field(1024, gt=0, le=65_536, description="samples")
    hop_length: int = Field(256, gt=0, le=65_536, description="samples")
    n_mels: int = Field(100, gt=0, le=1024, description="mel bands")
    f_min: float = Field(0.0, ge=0, le=192_000, description="Hz")
    f_max: float | None = Field(None, gt=0, le=192_000, description="Hz; None is half of sample_rate")
    mel_scale: str = "htk"
    norm: str | None = None
    power: float = Field(1.0, ge=0, le=10)
    padding: Literal["center", "same"] = Field("center", description="frame t is at t * hop, or half a hop later")


class BackboneConfig(Config):
    """Sizes of the network."""

    input_channels: int = Field(gt=0, le=1024, description="mel bands")
    dim: int = Field(gt=0, le=8192, description="width")
    intermediate_dim: int = Field(gt=0, le=32_768, description="width within a block")
    num_layers: int = Field(gt=0, le=64, description="blocks")
    layer_scale_init_value: float | None = Field(None, ge=0, le=1, description="only matters in training")
    adanorm_num_embeddings: None = Field(None, description="classes of a conditional model, which is not for mels")


class HeadConfig(Config):
    """The transform of the output."""

    dim: int = Field(gt=0, le=8192, description="width of the network")
    n_fft: int = Field(gt=0, le=8192, description="samples; also the Hann window's length")
    hop_length: int = Field(gt=0, le=65_536, description="samples")
    padding: Literal["center", "same"] = Field("same", description="as the features'")


class VocosConfig(Config):
    """The three parts of the authors' config.yaml, with their keys."""

    feature_extractor: FeaturesConfig
    backbone: BackboneConfig
    head: HeadConfig

    @model_validator(mode="after")
    def _holds_together(self) -> VocosConfig:
        features, backbone, head = self.feature_extractor, self.backbone, self.head
        for a, b, x, y in (
            ("backbone.input_channels", "feature_extractor.n_mels", backbone.input_channels, features.n_mels),
            ("head.dim", "backbone.dim", head.dim, backbone.dim),
            ("head.hop_length", "feature_extractor.hop_length", head.hop_length, features.hop_length),
            ("head.padding", "feature_extractor.padding", head.padding, features.padding),
        ):
            if x != y:
                raise ValueError(f"{a} is {x} and {b} is {y}, and they must be equal")
        if head.n_fft % head.hop_length or head.n_fft % 2 or head.n_fft == head.hop_length:
            raise ValueError("head.n_fft must be even, and a multiple of head.hop_length: twice it or more")
        return self

    @property
    def mel(self) -> MelConfig:
        """The mel that the network takes.

        Raises:
            VcvaeError: a mel that a `MelConfig` cannot describe.
        """
        c = self.feature_extractor
        for key, required in SLANEY_MEL.items():
            if getattr(c, key) != required:
                raise VcvaeError(
                    f"'feature_extractor.{key}' is {getattr(c, key)}, but only {required} is supported; "
                    "give a checkpoint for HiFi-GAN's mel, such as BSC-LT/vocos-mel-22khz."
                )
        values = {
            "sample_rate": c.sample_rate,
            "n_fft": c.n_fft,
            "window": c.n_fft,
            "hop": c.hop_length,
            "n_mels": c.n_mels,
            "f_min": c.f_min,
            "f_max": c.sample_rate // 2 if c.f_max is None else c.f_max,
            "floor": 1e-5,
        }
        return MelConfig.parse(values, context="feature_extractor")

    @classmethod
    def load(cls, path: Path) -> VocosConfig:
        """Read config.yaml.

        Raises:
            VcvaeError: it is not YAML, or does not describe a Vocos of mels.
        """
        values, parts = read_yaml(path), {}
        for part, class_path in CLASSES.items():
            given = values.get(part) if isinstance(values.get(part), dict) else {}
            if given.get("class_path") != class_path:
                raise VcvaeError(
                    f"{path}: '{part}.class_path' is {given.get('class_path')}, but only {class_path} is supported; "
                    "give a Vocos of that kind."
                )
            parts[part] = given.get("init_args", {})
        return cls.parse(parts, context=str(path))
