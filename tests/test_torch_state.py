"""Whatever a caller has set in torch, conversions are the same, and so is what the caller draws at random."""

import contextlib

import numpy as np
import pytest
import torch

from tests.synthetic import RATE, speak
from vcvae import Converter, load_model
from vcvae.torch_state import own_torch_state
from vcvae.vocoder import load_vocoder

SOURCE = speak("aisoe", f0=110, seconds=0.5)
TARGET = speak("oeaui", f0=210, tract=1.15, seconds=1.0)


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": default_dtype,
    "meta": lambda: torch.device("meta"),
}


def learned(model):
    converter = Converter(load_model(model), load_vocoder("griffin-lim"))
    voice = converter.learn(TARGET, sources=[SOURCE], sample_rate=RATE, steps=2)
    samples, _ = converter.convert(SOURCE, voice, sample_rate=RATE)
    return samples, converter.content(SOURCE, sample_rate=RATE), converter.speaker(SOURCE, sample_rate=RATE)


@pytest.fixture(scope="module")
def expected(tiny_model):
    return learned(tiny_model)


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_converter_gives_the_same_samples_in_any_state_of_torch(state, tiny_model, expected):
    with state():
        results = learned(tiny_model)
    for result, same in zip(results, expected, strict=True):
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, same)


def test_converter_does_not_move_the_random_state(tiny_model):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    learned(tiny_model)
    load_vocoder()  # that which ships
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_own_torch_state_ends_with_its_block(state):
    def observed():
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")

    with state():
        outside = observed(), torch.get_default_dtype(), torch.get_default_device()
        with own_torch_state():
            inside = observed(), torch.get_default_dtype(), torch.get_default_device()
        assert (observed(), torch.get_default_dtype(), torch.get_default_device()) == outside
    assert inside == ((False, True, False), torch.float32, torch.device("cpu"))
