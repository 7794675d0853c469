"""What tests of many modules begin with: the command, two voices, and what is costly to make, once a session."""

import functools
import os
import sys

# Several test processes on one machine: each with one thread, or their threads fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import typer.main

from tests.corpus import TINY, make_corpus
from tests.synthetic import RATE, speak
from vcvae.cli import main

EGS = Path(__file__).parents[1] / "egs"
build_command = functools.cache(typer.main.get_command)  # typer builds all commands for each call, in .05 s


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 – for libraries that draw from it


@pytest.fixture
def vcvae(monkeypatch, capsys, tmp_path):
    """Runs the command in this process, with a cache of its own → exit code, standard output, standard error."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr("typer.main.get_command", build_command)
    monkeypatch.setattr("vcvae.cli.console.ANNOUNCE_AFTER", float("inf"))  # what is printed hangs on no clock

    def run(*arguments):
        if arguments[0] == "convert" and not {"--quick", "--steps", "--replay"} & set(arguments):
            arguments = (*arguments, "--quick")  # learning the target's voice first is for tests of that
        monkeypatch.setattr(sys, "argv", ["vcvae", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def voices(tmp_path):
    """A folder with src.wav, a second, and spk.wav, 2.2 seconds, of two voices."""
    sf.write(tmp_path / "src.wav", speak("aisoe", f0=110, seconds=1.0), RATE)
    sf.write(tmp_path / "spk.wav", speak("oeauioeaui", f0=210, tract=1.15, seconds=2.2), RATE)
    return tmp_path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A prepared folder of four generated speakers, to read from."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a converter's model of the smallest sizes, untrained."""
    import torch

    from vcvae.models.conversion.config import DisentanglingConfig
    from vcvae.models.conversion.vae import DisentanglingVAE

    folder = tmp_path_factory.mktemp("tiny")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        DisentanglingVAE(DisentanglingConfig(**TINY)).save_pretrained(folder)
    return folder


@pytest.fixture
def model_with_prior(tiny_model, tmp_path, monkeypatch):
    """The folder of the smallest model with a prior of voices, which it cannot tell apart: so no limit holds."""
    import torch
    from torch.nn import functional as F

    from vcvae.convert import anonymize, draw, encoder
    from vcvae.features.f0 import F0Statistics
    from vcvae.models import load_model
    from vcvae.models.conversion import prior as prior_module
    from vcvae.models.hub import fingerprint

    for module in (draw, prior_module):
        monkeypatch.setattr(module, "MAX_SIMILARITY", 2.0)
    for module, name in ((draw, "APART"), (anonymize, "APART"), (anonymize, "SOURCE_SIMILARITY")):
        monkeypatch.setattr(module, name, 2.0)
    for name in ("sentences", "with-prior"):
        (tmp_path / "models" / name).mkdir(parents=True)
    sentences, folder = tmp_path / "models" / "sentences", tmp_path / "models" / "with-prior"
    sf.write(sentences / "a.wav", speak("oeaui", f0=220, seconds=0.6), RATE)
    for module in (draw, encoder):
        monkeypatch.setattr(module, "SENTENCES", sentences)
    model = load_model(tiny_model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embeddings = F.normalize(torch.randn(8, model.config.speaker_latent), dim=1)
        statistics = F0Statistics(torch.rand(8) + 6.5, torch.full((8,), 0.2))
    model.save_pretrained(folder)
    prior_module.VoicePrior.fit(embeddings, statistics, fingerprint(model)).save(folder / prior_module.PRIOR_FILE)
    return folder


@pytest.fixture(scope="session")
def released():
    """The converter that ships, on the CPU. Tests must not change it."""
    from vcvae import Converter

    return Converter.from_pretrained(device="cpu")


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A folder with source.wav and target.wav, three seconds each of two real speakers."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("source", "target"):
        samples, rate = sf.read(EGS / "convert" / f"{name}.flac", dtype="float32")
        sf.write(folder / f"{name}.wav", samples[: 3 * rate], rate)
    return folder
