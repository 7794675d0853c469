"""Short trainings of the smallest conversion model."""

import torch
from rich.console import Console

from tests.corpus import TINY
from vcvae.training import checkpoint
from vcvae.training.loop import train
from vcvae.training.tasks import parse


def make_values(corpus, output):
    """A configuration of six steps."""
    return {
        "task": "conversion",
        "output": str(output),
        "data": {"train": str(corpus), "dev": str(corpus)},
        "steps": 6,
        "batch_speakers": 2,
        "segment_frames": 32,
        "workers": 0,
        "validate_every": 1000,
        "validation_speakers": 2,
        "checkpoint_every": 2,
        "log_every": 2,
        "model": TINY,
        "discriminator": {"channels": 16},
        "conversions_from": 3,
    }


def run(values, **changes):
    """Train a copy of `values` with `changes`; returns the folder of the run."""
    return train(parse({**values, **changes}, context="test"), Console(quiet=True))


def weights(folder):
    return checkpoint.load(folder)["task"]


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name
