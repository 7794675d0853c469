"""Two processes that really run, joined by gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lhotse import CutSet
from rich.console import Console

from tests.corpus import make_corpus
from vcvae.data.prepare import MANIFEST
from vcvae.training import checkpoint
from vcvae.training.log import read
from vcvae.training.loop import train
from vcvae.training.tasks import parse

ROOT = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
TWO_CPUS = ["--config_file", str(ROOT / "recipes" / "accelerate" / "two_cpus.yaml")]


@pytest.fixture
def values(tmp_path):
    """A task in which nothing is drawn but the data: both ways, the same examples give the same gradients."""
    corpus = make_corpus(tmp_path / "corpus", speakers=4)
    # Each process divides by the bands that its batch knows; where all know as many, the mean of means is the mean.
    cuts = list(CutSet.from_file(corpus / MANIFEST))
    for cut in cuts:
        cut.custom["bandwidth"] = 11025
    CutSet.from_cuts(cuts).to_file(corpus / MANIFEST)
    corpus = str(corpus)
    return {
        "task": "autoencoder",
        "data": {"train": corpus, "dev": corpus},
        "segment_frames": 32,
        "workers": 0,
        "gain": [0.0, 0.0],
        "log_every": 1,
        "validate_every": 4,
        "validation_speakers": 4,
        "checkpoint_every": 100,
        "optimizer": {"warmup": 0, "final": 1.0},
        "model": {"channels": 16, "blocks": 1},
    }


def losses(folder):
    return [line["nll"] for line in read(folder) if line["group"] == "train"]


def test_two_processes_train_as_one_does_with_twice_the_batch_and_each_goes_on_with_the_others_run(values, tmp_path):
    def alone(output, steps):
        return train(
            parse(values | {"output": str(output), "steps": steps, "batch_speakers": 4}, where=""), Console(quiet=True)
        )

    def by_two(output, steps):
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(values | {"output": str(output), "steps": steps, "batch_speakers": 2}))
        done = subprocess.run(
            [*LAUNCH, *TWO_CPUS, "-m", "vcvae", "train", str(config)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    whole = alone(tmp_path / "whole", 8)
    said = by_two(tmp_path / "parts", 4)
    assert said.count("on 2 × cpu; starting.") == 1  # one of them speaks, and writes
    assert said.count("step       4  heard") == 1
    assert checkpoint.load(tmp_path / "parts")["examples"] == 16
    alone(tmp_path / "parts", 8)
    assert checkpoint.load(tmp_path / "parts")["examples"] == checkpoint.load(whole)["examples"] == 32

    assert len(losses(whole)) == 8
    assert losses(whole)[7] < losses(whole)[0]
    # The sums are made in another order: a millionth at first, which the optimizer lets grow.
    assert losses(tmp_path / "parts") == pytest.approx(losses(whole), rel=1e-3)
    trained, again = (checkpoint.load(folder)["validation"]["figures"] for folder in (whole, tmp_path / "parts"))
    assert again == pytest.approx(trained, rel=1e-3)
    assert not list((tmp_path / "parts").glob("**/.*unfinished"))
