"""The models, and the door to those that are saved."""

from __future__ import annotations

from pathlib import Path

from vcvae.models.disentangling import DisentanglingVAE

RELEASED = Path(__file__).parents[1] / "pretrained" / "conversion"


def load_model(source: str | Path | None = None) -> DisentanglingVAE:
    """The model saved in a folder or a Hugging Face repository, or, where none is named, the one that ships.

    Raises:
        VcvaeError: nothing is found there, or something else than a converter's model.
    """
    return DisentanglingVAE.from_pretrained(str(source or RELEASED))
