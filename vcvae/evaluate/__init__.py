"""Measures of models and conversions, and the report that `vcvae evaluate` writes."""

from importlib import import_module

# Each name and the module it lives in; loaded when first used, as some need matplotlib or scikit-learn.
_MODULES = {
    "AnonymizationReport": "anonymization",
    "Case": "cases",
    "EvaluationReport": "report",
    "compare": "comparison",
    "draw_cases": "cases",
    "evaluate": "report",
    "evaluate_anonymization": "anonymization",
    "load_measures": "plugins",
    "measure_cost": "cost",
    "plot_mels": "pictures",
    "plot_speakers": "pictures",
    "read_cases": "cases",
}

__all__ = [*_MODULES]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'vcvae.evaluate' has no attribute '{name}'")
    return getattr(import_module(f"vcvae.evaluate.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
