"""Voice conversion with disentangling variational auto-encoders: content and speaker in two latents.

To convert: `Converter`. To use the latents: `Encoder` on recordings, `load_model` on mels. The models that
it grew from: `AutoEncoder`, `DenoisingAutoEncoder`, `VAE`, `GaussianMixture`, `GMMConversion`.
Read `vcvae.convert.converter` first, then `vcvae.models.conversion.vae`.
"""

from importlib import import_module

__version__ = "0.1.0"

# Public name → its module, imported when the name is first used: `vcvae --help` does not wait for torch.
_MODULES = {
    "Anonymizer": "convert.anonymize",
    "AutoEncoder": "models.classic.autoencoder",
    "AutoEncoderConfig": "models.classic.autoencoder",
    "ContentEncoder": "models.conversion.encoders",
    "Converter": "convert.converter",
    "Decoder": "models.conversion.decoder",
    "DenoisingAutoEncoder": "models.classic.autoencoder",
    "DisentanglingConfig": "models.conversion.config",
    "DisentanglingVAE": "models.conversion.vae",
    "Encoder": "convert.encoder",
    "F0Encoder": "models.conversion.encoders",
    "GMMConversion": "models.classic.gmm_conversion",
    "GMMConversionConfig": "models.classic.gmm_conversion",
    "GaussianMixture": "models.classic.gmm",
    "GaussianMixtureConfig": "models.classic.gmm",
    "MelConfig": "features.mel",
    "MelSpectrogram": "features.mel",
    "SourceFilterVocoder": "vocoder",
    "SpeakerEncoder": "models.conversion.encoders",
    "VAE": "models.classic.autoencoder",
    "VcvaeError": "errors",
    "Voice": "models.conversion.voice",
    "VoiceCache": "convert.voice_cache",
    "VoiceCard": "models.conversion.voice",
    "VoicePrior": "models.conversion.prior",
    "load_autoencoder": "models",
    "load_model": "models",
    "load_vocoder": "vocoder",
}

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'vcvae' has no attribute '{name}'")
    return getattr(import_module(f"vcvae.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
