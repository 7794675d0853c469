"""Options that would be ignored beside others are refused, before any file is read."""

from typing import get_args, get_type_hints

import pytest
import typer

from vcvae.cli import COMMANDS
from vcvae.cli.options import refuse_ignored
from vcvae.errors import VcvaeError


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("voice --mix a.voice=1 --steps 5 -o c.voice", "--steps: has no effect with --mix and --draw"),
        ("voice --draw --steps 0 --replay b -o c.voice", "--steps, --replay: have no effect with --mix and --draw"),
        ("convert a.wav --target b.wav --quick --steps 5", "--steps: has no effect with --quick"),
        ("convert a.wav --target b.wav --steps 0 --replay c.wav", "--replay: has no effect with --steps 0"),
        ("voice a.wav --steps 0 --replay b -o c.voice", "--replay: has no effect with --steps 0"),
        ("voice --mix a.voice=1 --mix b.voice=1 --model m --seed 0 -o c.voice", "--model, --seed: have no effect with"),
        ("voice --list --name Ann", "--name: has no effect with --list"),
        ("voice --clear --steps 0", "--steps: has no effect with --clear"),
        ("voice a.wav --list --clear", "RECORDINGS, --clear: have no effect with --list"),
        ("live --list --target a.voice --block 10 -o a.wav", "--target, --block, -o: have no effect with --list"),
        ("live --target a.voice --monitor off", "--monitor: has no effect without --output"),
        ("live --target a.voice --simulate a.wav -o b.wav --device cuda", "--device: has no effect with a .voice"),
        ("anonymize talks --by utterance --speakers s.tsv", "--speakers: has no effect with --by utterance and"),
        ("train a.yaml --explain conversion", "CONFIG: has no effect with --explain"),
        ("train --explain conversion --set steps=1", "--set: has no effect with --explain"),
        ("fit a.yaml --explain", "CONFIG: has no effect with --explain"),
        ("convert a.wav --target b.wav --seed 0", "--seed: has no effect without --vocoder griffin-lim"),
        ("vocode a.wav --vocoder vocos:v --seed 0", "--seed: has no effect without --vocoder griffin-lim"),
        ("decode a.npz -o a.wav --model m --seed 0", "--seed: has no effect without --vocoder griffin-lim"),
        ("denoise a.wav --model m --seed 0", "--seed: has no effect without --vocoder griffin-lim"),
        ("anonymize a.wav --seed 0", "--seed: has no effect without --vocoder griffin-lim"),
        ("encode mel a.wav -o a.npy --bits 8", "--bits: has no effect for an array"),
        ("encode code a.wav -o a.npz --device cuda", "--device: has no effect for a code"),
    ],
)
def test_options_that_would_be_ignored_are_refused(vcvae, command, message):
    code, out, err = vcvae(*command.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_options_that_would_be_ignored_are_given_even_as_zero():
    refuse_ignored({"--a": None, "--b": False, "--c": [], "--d": ""}, "here")
    with pytest.raises(VcvaeError, match=r"^--a, --b: have no effect here; leave them out\.$"):
        refuse_ignored({"--a": 0, "--b": True}, "here")


def test_options_of_numbers_have_a_least_and_a_greatest_value():
    checked_later = {"f0", "distance", "bits"}  # by what they are passed to
    numbers = 0
    for command in COMMANDS:
        for name, hint in get_type_hints(command, include_extras=True).items():
            if (
                name != "return"
                and hint is not typer.Context
                and name not in checked_later
                and {int, float} & {*get_args(get_args(hint)[0]), get_args(hint)[0]}
            ):
                numbers += 1
                assert None not in (hint.__metadata__[0].min, hint.__metadata__[0].max), f"{command.__name__}: {name}"
    assert numbers > 15


@pytest.mark.parametrize(
    "command",
    [
        "convert a.wav --target b.wav --pitch-shift 1e18",
        "live --target b.voice --pitch-shift -99",
        "voice a.wav -o b.voice --steps 1000000000",
        "evaluate --corpus a --count 99999999999999999999999",
        "prepare folder a b --jobs 99999999999999999999999",
    ],
)
def test_options_of_numbers_are_refused_beyond_their_range(vcvae, command):
    code, out, err = vcvae(*command.split())
    assert (code, out) == (2, "")
    assert "Input should be" in err
