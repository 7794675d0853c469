"""Measures of models and conversions, and the report of them all that `vcvae evaluate` writes."""

from importlib import import_module

# Loaded when they are first used: training needs some of these, and none of the rest.
_HOMES = {
    "Case": "cases",
    "draw_cases": "cases",
    "draw_mels": "pictures",
    "draw_speakers": "pictures",
    "equal_error_rate": "speakers",
    "evaluate": "report",
    "f0_correlation": "measures",
    "interval": "statistics",
    "load_measures": "plugins",
    "mel_cepstral_distortion": "distortion",
    "probe": "speakers",
    "read_cases": "cases",
    "retrieval": "speakers",
}

__all__ = [*_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'vcvae.evaluate' has no attribute '{name}'")
    return getattr(import_module(f"vcvae.evaluate.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
