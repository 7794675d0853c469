"""What tests of many modules begin with: the command, and two voices."""

import sys

import pytest
import soundfile as sf

from tests.synthetic import RATE, speak
from vcvae.cli import main


@pytest.fixture
def vcvae(monkeypatch, capsys):
    """Runs the command in this process → exit code, standard output, standard error."""

    def run(*arguments):
        if arguments[0] == "convert" and "--steps" not in arguments:
            arguments = (*arguments, "--steps", "0")  # how a voice is learned has tests of its own
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
    sf.write(tmp_path / "src.wav", speak("aisoe", f0=110, seconds=1.0), RATE)
    sf.write(tmp_path / "spk.wav", speak("oeaui", f0=210, tract=1.15, seconds=1.0), RATE)
    return tmp_path
