"""The models, and how saved ones are loaded."""

from __future__ import annotations

from pathlib import Path

from vcvae.errors import VcvaeError
from vcvae.models.classic.autoencoder import VAE, AutoEncoder, DenoisingAutoEncoder
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.hub import describe
from vcvae.pretrained import CONVERSION


def load_model(source: str | Path | None = None) -> DisentanglingVAE:
    """The model saved in a folder or a Hugging Face repository, or, where none is named, the one that ships.

    Raises:
        VcvaeError: nothing is found there, or something other than a conversion model.
    """
    return DisentanglingVAE.from_pretrained(str(source or CONVERSION))


def load_autoencoder(source: str | Path | None, *, denoising: bool = False) -> AutoEncoder:
    """The auto-encoder, of whichever kind, that is saved in a folder or a Hugging Face repository.

    Raises:
        VcvaeError: nothing is found there, or no auto-encoder, or, with `denoising`, one of another kind.
    """
    if source is None:
        raise VcvaeError("--model: name an auto-encoder; none ships, and 'vcvae train recipes/family/…' makes one.")
    kinds = (DenoisingAutoEncoder,) if denoising else (AutoEncoder, DenoisingAutoEncoder, VAE)
    name = describe(source)[0]
    for kind in kinds:
        if kind.__name__ == name:
            return kind.from_pretrained(str(source))
    raise VcvaeError(f"{source}: holds {name}, where one of {', '.join(kind.__name__ for kind in kinds)} is needed.")
