import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.corpus import TINY, make_corpus
from vcvae import load_model
from vcvae.config import override, read_yaml
from vcvae.errors import VcvaeError
from vcvae.training import checkpoint
from vcvae.training.config import OptimizerConfig
from vcvae.training.loop import _Run, load_run, train
from vcvae.training.stopping import Stop, Stopped
from vcvae.training.tasks import parse
from vcvae.training.tasks.conversion import ConversionConfig, ConversionTask

MINIMAL = {"task": "conversion", "output": "x", "data": {"train": "a", "dev": "b"}}
TRAIN = [sys.executable, "-c", "from vcvae.cli import main; main()", "train"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def values(corpus, tmp_path):
    return {
        "task": "conversion",
        "output": str(tmp_path / "run"),
        "data": {"train": str(corpus), "dev": str(corpus)},
        "steps": 6,
        "batch_speakers": 2,
        "segment_frames": 32,
        "workers": 0,
        "validate_every": 1000,
        "validation_speakers": 4,
        "checkpoint_every": 2,
        "log_every": 2,
        "model": TINY,
        "weights": {"recognition": 0.1, "content_mse": 0.1},
        "conversions_from": 3,
    }


def run(values, **changes):
    return train(parse({**values, **changes}, where="test"), Console(quiet=True))


def weights(folder):
    return checkpoint.load(folder)["task"]


def events(folder):
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def test_a_killed_run_goes_on_as_if_nothing_had_happened(values, tmp_path):
    values |= {"steps": 40, "checkpoint_every": 8}
    whole = run(values, output=str(tmp_path / "whole"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values | {"workers": 1}))  # the order of the data does not depend on them
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([*TRAIN, str(config)], env=environment, stdout=subprocess.DEVNULL)
    saved = tmp_path / "run" / checkpoint.NAME
    while not saved.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < checkpoint.load(tmp_path / "run")["step"] < 40
    subprocess.run([*TRAIN, str(config)], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert_same(weights(whole), weights(tmp_path / "run"))


def test_a_run_that_is_asked_to_stop_saves_the_step_at_hand(values, tmp_path):
    values |= {"steps": 100_000, "checkpoint_every": 50_000, "workers": 1}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    process = subprocess.Popen([*TRAIN, str(config)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("step") for line in lines)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does, to the readers too
    assert "run the same command to go on" in "".join(lines)
    assert process.wait() == 0
    assert 0 < checkpoint.load(tmp_path / "run")["step"] < 100_000


def test_whoever_trains_from_a_program_is_told_that_it_was_stopped(values, monkeypatch):
    """Or it would go on with a model that has learned in part."""
    advance = _Run._advance

    def interrupted(self, reading):
        signal.raise_signal(signal.SIGTERM)
        return advance(self, reading)

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "_advance", interrupted)
        with pytest.raises(Stopped):
            run(values)
    assert checkpoint.load(run(values))["step"] == 6


def test_a_signal_that_comes_twice_is_one_and_a_second_interrupt_is_obeyed(monkeypatch):
    with Stop() as stop:
        assert not stop.asked
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):  # a launcher's, a group's
            signal.raise_signal(number)
        assert stop.asked
        monkeypatch.setattr(Stop, "PATIENCE", 0.0)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_training_learns_and_logs(values, tmp_path):
    torch.manual_seed(0)
    # A hundred steps are few: one task, and the voices as they are.
    values |= {"weights": {"adversarial": 0.0, "features": 0.0}, "speeds": [1.0]}
    folder = run(values, steps=100, validate_every=50, optimizer={"learning_rate": 0.005, "warmup": 5})
    logged = events(folder)
    losses = [event.value for event in logged.Scalars("train/reconstruction")]
    assert sum(losses[-5:]) / 5 < 0.9 * losses[0]
    assert {"dev/equal_error_rate", "dev/content_similarity", "dev/converted_retrieval"} <= set(
        logged.Tags()["scalars"]
    )
    assert "mel/converted" in logged.Tags()["images"]
    assert "audio/converted" in logged.Tags()["audio"]
    assert (folder / "environment.json").exists()
    _, task = load_run(folder)
    task.released.half().save_pretrained(tmp_path / "model")
    model, mel = load_model(tmp_path / "model"), torch.randn(1, 80, 30)
    torch.testing.assert_close(model.content(mel).mean, task.released.float().content(mel).mean)


def test_accumulated_batches_are_averaged(values, tmp_path, monkeypatch):
    """The gradient of two batches of two is that of one batch of four."""

    def forward(task, batch, step):
        total = batch["samples"].square().mean() * sum(p.sum() for p in task.model.parameters())
        return {"model": total}, {}

    monkeypatch.setattr(ConversionTask, "forward", forward)
    norms = []
    for name, sizes in (("whole", (1, 4)), ("parts", (2, 2))):
        folder = run(values, output=str(tmp_path / name), steps=2, accumulate=sizes[0], batch_speakers=sizes[1])
        norms.append([event.value for event in events(folder).Scalars("train/gradient_model")])
    assert norms[0] == pytest.approx(norms[1])
    assert norms[0][0] > 0


def test_a_longer_run_goes_on_and_a_different_one_is_refused(values):
    folder = run(values, steps=4)
    run(values, steps=6)
    assert checkpoint.load(folder)["step"] == 6
    with pytest.raises(VcvaeError, match="'margin' differs"):
        run(values, margin=0.1)
    run(values, steps=7, optimizer={"learning_rate": 1e-5})  # as the message about a loss that is not finite advises


def test_a_run_does_not_go_on_with_other_speakers(values, tmp_path):
    run(values, steps=2)
    fewer = str(make_corpus(tmp_path / "fewer", speakers=3))
    with pytest.raises(VcvaeError, match=r"holds 9 voices, where the run in .* began with 12; give the same data"):
        run(values, steps=4, data={"train": fewer, "dev": fewer})


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_its_checkpoint(values, monkeypatch):
    folder = run(values, steps=4)
    before = (folder / checkpoint.NAME).read_bytes()
    monkeypatch.setattr("vcvae.training.losses.reconstruction", lambda *_: torch.tensor(torch.nan, requires_grad=True))
    with pytest.raises(VcvaeError, match="not finite at step 4"):
        run(values, steps=6)
    assert (folder / checkpoint.NAME).read_bytes() == before


def test_a_precision_that_cannot_be_had_is_one_sentence(values, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr("torch.accelerator.is_available", lambda: False)
        with pytest.raises(VcvaeError, match="precision: fp16 needs a GPU"):
            run(values, precision="fp16")
    run(values, steps=1)
    with pytest.raises(VcvaeError, match=r"precision: bf16 cannot be had .* start a process of its own"):
        run(values, precision="bf16")


def test_a_broken_checkpoint_is_one_sentence(values, tmp_path):
    with pytest.raises(VcvaeError, match="no checkpoint here"):
        load_run(tmp_path)
    (tmp_path / checkpoint.NAME).write_bytes(b"nothing")
    with pytest.raises(VcvaeError, match="cannot be read as a checkpoint"):
        load_run(tmp_path)
    torch.save([1, 2], tmp_path / checkpoint.NAME)
    with pytest.raises(VcvaeError, match="cannot be read as a checkpoint"):
        load_run(tmp_path)


def test_a_full_disk_ends_the_run_and_keeps_its_checkpoint(values):
    folder = run(values, steps=2)
    before = (folder / checkpoint.NAME).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # no file can be larger
    try:
        with pytest.raises(VcvaeError, match=r"checkpoint.pt: cannot be written .*make room there and run the same"):
            run(values)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (folder / checkpoint.NAME).read_bytes() == before
    assert not list(folder.glob(".*"))
    run(values)
    assert checkpoint.load(folder)["step"] == 6


def test_a_killed_reader_ends_the_run_in_one_sentence_and_it_goes_on(values, tmp_path, monkeypatch):
    whole, advance = run(values, output=str(tmp_path / "whole")), _Run._advance

    def shoot(self, reading):
        if self.step == 3:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)
            time.sleep(0.2)
        return advance(self, reading)

    with monkeypatch.context() as patched:
        patched.setattr(_Run, "_advance", shoot)
        with pytest.raises(VcvaeError, match=r"a process that reads audio was killed at step \d+, .*to go on"):
            run(values, workers=1, steps=1000)
    assert checkpoint.load(tmp_path / "run")["step"] == 2
    run(values, workers=1)
    assert_same(weights(whole), weights(tmp_path / "run"))


def test_a_file_that_breaks_in_the_middle_of_a_run_does_not_end_it(values, tmp_path, caplog):
    corpus = make_corpus(tmp_path / "corpus", speakers=2)
    values |= {"data": {"train": str(corpus), "dev": str(corpus)}}
    run(values, steps=2)
    file = sorted(corpus.parent.glob("audio/**/*.flac"))[-1]
    file.write_bytes(file.read_bytes()[:2000])
    run(values)
    assert checkpoint.load(tmp_path / "run")["step"] == 6
    assert "/".join(file.parts[-3:]) in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 1}, "unknown key 'stepz'; did you mean 'steps'"),
        ({"optimizer": {"learning_rat": 1}}, "'optimizer.learning_rat'; did you mean 'optimizer.learning_rate'"),
        ({"model": {"mel": {"hops": 1}}}, "'model.mel.hops'; did you mean 'model.mel.hop'"),
        ({"steps": "many"}, "'steps' is wrong"),
        ({"data": 5}, "'data' is wrong"),
        ({"optimizer": {"betas": [2, 3]}}, "'optimizer.betas.0' is wrong"),
        ({"content_input": {"noise_level": [-15, -45]}}, "noise_level must rise"),
        ({"model": {"mel": {"window": 2048}}}, "must not exceed n_fft"),
        ({"model": {"mel": {"f_max": 20000}}}, "half the sample rate"),
        ({"task": ["conversion"]}, "must be one of: conversion"),
        ({"task": "cooking"}, "must be one of: conversion"),
        ({"data": {"train": "x"}}, "'data.dev' is missing"),
        ({"task": "vae", "data": {"train": "x", "dev": "y", "parallel": "z"}}, "unknown key 'data.parallel'"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(values, change, message):
    with pytest.raises(VcvaeError, match=message):
        parse({**values, **change}, where="config.yaml")


def test_overrides_reach_nested_keys(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("steps: 5\noptimizer:\n  clip: 2.0\n")
    values = override(read_yaml(path), ["optimizer.learning_rate=0.001", "output=exp/x", "model.mel.hop=128"])
    assert values["optimizer"] == {"clip": 2.0, "learning_rate": 0.001}
    assert values["model"] == {"mel": {"hop": 128}}
    with pytest.raises(VcvaeError, match="key=value"):
        override({}, ["steps"])
    with pytest.raises(VcvaeError, match="not a group of keys"):
        override({"steps": 5}, ["steps.more=1"])
    with pytest.raises(VcvaeError, match="cannot be read"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(VcvaeError, match="not valid YAML"):
        override({}, ["steps=["])
    path.write_text("precision: no")
    assert parse(read_yaml(path) | MINIMAL, where="").precision == "no"
    path.write_text("steps: [")
    with pytest.raises(VcvaeError, match="not valid YAML"):
        read_yaml(path)


def test_the_rate_rises_and_falls():
    rates = [OptimizerConfig(learning_rate=1.0, warmup=10, final=0.1).rate(step, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)


def test_the_defaults_are_a_whole_configuration():
    ConversionConfig(output="x", data={"train": "a", "dev": "b"})
