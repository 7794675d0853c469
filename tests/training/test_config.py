import pytest

from vcvae.errors import VcvaeError
from vcvae.training.config import OptimizerConfig
from vcvae.training.tasks import parse
from vcvae.training.tasks.conversion import ConversionConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 1}, "unknown key 'stepz'; did you mean 'steps'"),
        ({"optimizer": {"learning_rat": 1}}, "'optimizer.learning_rat'; did you mean 'optimizer.learning_rate'"),
        ({"model": {"mel": {"hops": 1}}}, "'model.mel.hops'; did you mean 'model.mel.hop'"),
        ({"steps": "many"}, "'steps' is wrong"),
        ({"data": 5}, "'data' is wrong"),
        ({"optimizer": {"betas": [2, 3]}}, "'optimizer.betas.0' is wrong"),
        ({"content_input": {"noise_level": [-15, -45]}}, "noise_level' is wrong: a range must rise"),
        ({"model": {"mel": {"window": 2048}}}, "must not exceed n_fft"),
        ({"model": {"mel": {"f_max": 20000}}}, "half the sample rate"),
        ({"task": ["conversion"]}, "must be one of: conversion"),
        ({"task": "cooking"}, "must be one of: conversion"),
        ({"data": {"train": "x"}}, "'data.dev' is missing"),
        ({"weights": {"recognition": 0.1}}, "unknown key 'weights.recognition'"),
        ({"task": "gmm_conversion"}, "must be one of: conversion"),
        ({"task": "vae", "data": {"train": "x", "dev": "y", "parallel": "z"}}, "unknown key 'data.parallel'"),
    ],
)
def test_parse_of_a_wrong_configuration_is_an_error(values, change, message):
    with pytest.raises(VcvaeError, match=message):
        parse({**values, **change}, context="config.yaml")


def test_learning_rate_at_rises_and_falls():
    config = OptimizerConfig(learning_rate=1.0, warmup=10, final_share=0.1)
    rates = [config.learning_rate_at(step, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)


def test_conversion_config_needs_output_and_data_only():
    ConversionConfig(output="x", data={"train": "a", "dev": "b"})
