"""Voice conversion with disentangling variational auto-encoders: who speaks, and what is said, in two latents."""

from importlib import import_module

__version__ = "0.1.0"

# Loaded when they are first used: `vcvae --help` should not wait for torch.
_HOMES = {
    "ContentEncoder": "models.conversion.vae",
    "Converter": "convert.converter",
    "Decoder": "models.conversion.vae",
    "DisentanglingConfig": "models.conversion.vae",
    "DisentanglingVAE": "models.conversion.vae",
    "Encoder": "convert.encoder",
    "MelConfig": "features.mel",
    "MelSpectrogram": "features.mel",
    "SourceFilterVocoder": "vocoder",
    "F0Encoder": "models.conversion.vae",
    "SpeakerEncoder": "models.conversion.vae",
    "VcvaeError": "errors",
    "Voice": "models.conversion.voice",
    "load_model": "models",
    "load_vocoder": "vocoder",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'vcvae' has no attribute '{name}'")
    return getattr(import_module(f"vcvae.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
