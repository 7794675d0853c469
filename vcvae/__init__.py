"""Voice conversion with disentangling variational auto-encoders: who speaks, and what is said, in two latents."""

from importlib import import_module

__version__ = "0.1.0"

# Loaded when they are first used: `vcvae --help` should not wait for torch.
_HOMES = {
    "ContentEncoder": "models.disentangling",
    "Converter": "convert",
    "Decoder": "models.disentangling",
    "DisentanglingConfig": "models.disentangling",
    "DisentanglingVAE": "models.disentangling",
    "Encoder": "convert",
    "MelConfig": "mel",
    "MelSpectrogram": "mel",
    "NeuralVocoder": "vocoder",
    "PitchEncoder": "models.disentangling",
    "SpeakerEncoder": "models.disentangling",
    "VcvaeError": "errors",
    "Voice": "models.voice",
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
