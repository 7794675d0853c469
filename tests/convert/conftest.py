"""What the tests of conversion share: a tiny model, and few sentences to fine-tune with."""

import pytest
import soundfile as sf
import torch

from tests.corpus import TINY
from tests.synthetic import RATE, speak
from vcvae.convert.converter import Converter
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.vocoder import GriffinLim


@pytest.fixture
def model():
    """An untrained model of the smallest sizes."""
    torch.manual_seed(0)
    return DisentanglingVAE(DisentanglingConfig(**TINY)).eval()


@pytest.fixture
def small(model):
    """A converter with the tiny model and the fastest vocoder."""
    return Converter(model, GriffinLim(iterations=2))


@pytest.fixture(scope="session")
def sentences(tmp_path_factory):
    """A folder of two generated sentences."""
    folder = tmp_path_factory.mktemp("sentences")
    sf.write(folder / "a.wav", speak("oeaui", f0=220, tract=1.2, seconds=1.0), RATE)
    sf.write(folder / "b.wav", speak("iuoae", f0=130, tract=1.05, seconds=1.0), RATE)
    return folder


@pytest.fixture(autouse=True)
def few_sentences(request, monkeypatch, sentences):
    """These take the place of the sentences that come with the package, which would only take time."""
    if not request.node.get_closest_marker("slow"):
        monkeypatch.setattr("vcvae.convert.encoder.SENTENCES", sentences)
