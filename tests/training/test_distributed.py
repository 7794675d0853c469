"""Training by two processes, connected by gloo."""

import os
import subprocess

import pytest
import yaml
from lhotse import CutSet
from rich.console import Console

from tests.corpus import make_corpus
from tests.launch import LAUNCH, ROOT, TWO_CPUS
from vcvae.data.cuts import MANIFEST
from vcvae.training import checkpoint
from vcvae.training.loop import train
from vcvae.training.run_folder import read_figures
from vcvae.training.tasks import parse


@pytest.fixture
def values(tmp_path):
    """A task whose only randomness is the order of the data, so that the same examples give the same gradients."""
    corpus = make_corpus(tmp_path / "corpus", speakers=4)
    # Each process averages over the valid bands of its batch; with equal bandwidths the mean of means is the mean.
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
        "optimizer": {"warmup": 0, "final_share": 1.0},
        "model": {"channels": 16, "blocks": 1},
    }


def training_losses(folder):
    return [line["nll"] for line in read_figures(folder) if line["group"] == "train"]


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch_size_and_resume_each_others_run(values, tmp_path):
    def train_by_one(output, steps):
        changes = {"output": str(output), "steps": steps, "batch_speakers": 4}
        return train(parse(values | changes, context="test"), Console(quiet=True))

    def train_by_two(output, steps):
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

    whole = train_by_one(tmp_path / "whole", 8)
    printed = train_by_two(tmp_path / "parts", 4)
    assert printed.count("on 2 × cpu; starting.") == 1  # one process prints and writes
    assert printed.count("step       4  input_l1") == 1
    assert checkpoint.load(tmp_path / "parts")["examples"] == 16
    train_by_one(tmp_path / "parts", 8)
    assert checkpoint.load(tmp_path / "parts")["examples"] == checkpoint.load(whole)["examples"] == 32

    assert len(training_losses(whole)) == 8
    assert training_losses(whole)[7] < training_losses(whole)[0]
    # Sums are in another order: the difference is 1e-6 at first and grows with the steps.
    assert training_losses(tmp_path / "parts") == pytest.approx(training_losses(whole), rel=1e-3)
    figures = checkpoint.load(whole)["validation"]["figures"]
    assert checkpoint.load(tmp_path / "parts")["validation"]["figures"] == pytest.approx(figures, rel=1e-3)
    assert not list((tmp_path / "parts").glob("**/.*unfinished"))
