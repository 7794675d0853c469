"""The recipe of what ships: the sizes are those that ship, and in miniature all its steps fit together."""

import functools
import importlib
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from recipes.release import sentences, voice_prior
from tests.corpus import TINY, TINY_ECAPA, TINY_RECOGNIZER, make_corpus
from tests.synthetic import speak
from vcvae import Encoder, load_model, pretrained
from vcvae.cli import recipe
from vcvae.config import read_yaml
from vcvae.evaluate import pictures
from vcvae.features.f0 import F0Statistics
from vcvae.models.frozen import ecapa, moonshine
from vcvae.models.hub import describe, read_weights
from vcvae.training.tasks import parse

RECIPES = Path(__file__).parents[2] / "recipes"
MACHINES = ("cpu", "gpu")
TINY_VOCODER = {"channels": 16, "blocks": 1, "f0_channels": 8, "f0_blocks": 1}
SMALLER = {  # than the configurations of cpu/
    "vocoder": {
        "model": TINY_VOCODER,
        "adversarial_from": 1,
        "discriminators": {"period_channels": [4, 4, 4, 4], "spectrum_channels": [4, 4, 4, 4]},
    },
    "conversion": {"model": TINY, "discriminator": {"channels": 16}, "conversions_from": 1},
    "postfilter": {"channels": 16, "blocks": 1, "discriminator": {"channels": [4, 8, 8, 8]}},
    "conversion_losses": {},
}
RUN = {"steps": 2, "batch_speakers": 2, "segment_frames": 48, "workers": 0, "validation_speakers": 2, "log_every": 1}


@pytest.mark.parametrize("machine", MACHINES)
def test_sizes_are_those_that_ship(machine):
    def config(name):
        return parse(read_yaml(RECIPES / "release" / machine / f"{name}.yaml"), context=name)

    conversion = config("conversion")
    postfilter = config("postfilter")
    vocoder = config("vocoder")
    sizes = conversion.model.model_dump() | {
        "postfilter_channels": postfilter.channels,
        "postfilter_blocks": postfilter.blocks,
    }
    assert sizes == load_model().config.model_dump()
    assert vocoder.model.model_dump(mode="json") == describe(pretrained.VOCODER)[1]


def stub_checkpoints(folder: Path) -> dict[str, str]:
    """Checkpoints in the layout of the public ones, of the smallest sizes."""
    for name in ("ecapa", "moonshine", "kokoro/onnx", "kokoro/voices"):
        (folder / name).mkdir(parents=True)
    torch.save(ecapa.EcapaTDNN(ecapa.EcapaConfig(**TINY_ECAPA)).state_dict(), folder / "ecapa" / ecapa.ECAPA_CHECKPOINT)
    recognizer = moonshine.MoonshineEncoder(moonshine.MoonshineConfig(**TINY_RECOGNIZER))
    weights = {f"model.encoder.{name}": x for name, x in recognizer.state_dict().items()}
    save_file(weights, folder / "moonshine" / "model.safetensors")
    (folder / "kokoro" / sentences.WEIGHTS).write_bytes(b"")
    for voice, _ in sentences.SENTENCES:
        for name in voice.split("+"):
            np.zeros((510, 256), np.float32).tofile(folder / "kokoro" / "voices" / f"{name}.bin")
    return {name: str(folder / name) for name in ("ecapa", "moonshine", "kokoro")}


class Kokoro:
    """Speaks vowels, where the text-to-speech network of the public checkpoint would be."""

    def __init__(self, weights: str, voices: str) -> None:
        assert set(np.load(voices)) == {voice for voice, _ in sentences.SENTENCES}
        self.tokenizer = types.SimpleNamespace(phonemize=lambda text, language: text)

    def create(self, phonemes, voice, speed, *, is_phonemes):
        return speak("aiu", seconds=0.5, sample_rate=sentences.SAMPLE_RATE), sentences.SAMPLE_RATE


class Voiced(Encoder):
    """Its F0 encoder, after two steps of training, may find nothing voiced."""

    def voice(self, *arguments, **options):
        statistics = F0Statistics(6.5 + torch.rand(1), 0.2 + 0.1 * torch.rand(1))
        return replace(super().voice(*arguments, **options), f0_statistics=statistics)


@pytest.fixture
def miniature(tmp_path, monkeypatch, vcvae):
    """Runs the recipe's steps in this process, from a folder of speakers and stub checkpoints."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RECIPES, tmp_path / "recipes")
    for name, smaller in SMALLER.items():
        path = tmp_path / "recipes" / "release" / "cpu" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | RUN | smaller))
    make_corpus(tmp_path / "corpus", speakers=8, utterances=2, seconds=1.5)
    checkpoints = stub_checkpoints(tmp_path / "checkpoints")
    # The sizes of public checkpoints are the defaults; those of the stubs are smaller.
    small_ecapa = functools.partial(ecapa.EcapaTDNN, ecapa.EcapaConfig(**TINY_ECAPA))
    small_recognizer = functools.partial(moonshine.MoonshineEncoder, moonshine.MoonshineConfig(**TINY_RECOGNIZER))
    monkeypatch.setattr(ecapa, "EcapaTDNN", small_ecapa)
    monkeypatch.setattr(moonshine, "MoonshineEncoder", small_recognizer)
    kokoro = types.ModuleType("kokoro_onnx")
    kokoro.Kokoro = Kokoro
    monkeypatch.setitem(sys.modules, "kokoro_onnx", kokoro)
    monkeypatch.setattr(voice_prior, "Encoder", Voiced)
    monkeypatch.setattr(pictures, "plot_mels", lambda path, *_, **__: path.write_bytes(b"\x89PNG\r\n\x1a\n"))

    def call(words, launch):
        if words[0] in call.fail:
            return 1
        if words[0] == recipe.PYTHON:
            importlib.import_module(f"recipes.release.{Path(words[1]).stem}").main(words[2:])
            return 0
        if words[0] == "evaluate":  # without networks that a test machine may lack, or fetch
            words = [*words[: words.index("--verifier")], "--count", "2"]
        if words[0] == "prepare":
            words = [*words, "--jobs", "1", "--dev", "2", "--test", "2"]
        return vcvae(*words)[0]

    def run(lines, **options):
        assignments = [f"options.{name}={path}" for name, path in checkpoints.items()]
        source = tmp_path / "corpus" / "source"
        recipe.run(
            Path("recipes/release"), lines.append, source=source, assignments=["corpus=folder", *assignments], **options
        )

    call.fail = set()
    monkeypatch.setattr(recipe, "_call", call)
    run.call = call
    return run


@pytest.mark.slow
def test_release_makes_all_that_ships(miniature):
    lines = []
    miniature.call.fail.add("evaluate")
    with pytest.raises(recipe.VcvaeError, match="the step 'evaluate' failed"):
        miniature(lines)
    miniature.call.fail.clear()
    lines.clear()
    miniature(lines)
    assert lines[-1] == "recipes/release: finished"
    assert sum(line.endswith(": finished before") for line in lines) == 13  # all but 'evaluate' and 'cards'

    made = Path("exp/release/pretrained")
    expected = {path.name for path in pretrained.CONVERSION.parent.iterdir() if path.is_dir()} - {"__pycache__"}
    assert {path.name for path in made.iterdir()} == expected
    assert len(list((made / "sentences").glob("*.ogg"))) == len(sentences.SENTENCES)
    for name in expected - {"sentences"}:
        ships = pretrained.CONVERSION.parent / name
        assert {path.name for path in (made / name).iterdir()} == {path.name for path in ships.iterdir()}
        assert describe(made / name)[0] == describe(ships)[0]
        assert read_weights(made / name / "model.safetensors")
        assert "recipes/release" in (made / name / "README.md").read_text()
    model = load_model(made / "conversion")
    assert model.config.postfilter_blocks == 1
    assert model.speaker.centre.any()
    card = (made / "conversion" / "README.md").read_text()
    for run in ("conversion", "postfilter", "conversion_losses"):
        assert f"### {run}\n" in card
        assert f"task: {run}\n" in card
    assert card.count("2 of 2 steps") == 3
    assert "| equal error rate of speaker latents | " in card
    assert "2 conversions between unseen speakers, in one pass" in card


def test_gpu_script_runs_the_recipe_for_a_gpu(tmp_path):
    (tmp_path / "vcvae").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "vcvae").chmod(0o755)
    script = RECIPES / "release" / "gpu.sh"
    path = f"{tmp_path}:/usr/bin:/bin"
    command = ["bash", script, "/data/a corpus", "--set", "corpus=folder"]
    done = subprocess.run(command, env={"PATH": path}, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == [
        *("run", "recipes/release", "--source", "/data/a corpus", "--set", "options.machine=gpu"),
        *("--launch", "recipes/accelerate/one_gpu.yaml", "--set", "corpus=folder"),
    ]
    without = subprocess.run(["bash", script], env={"PATH": path}, text=True, capture_output=True)
    assert without.returncode
    assert "give the folder of the corpus" in without.stderr
