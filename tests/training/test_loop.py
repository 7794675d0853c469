import multiprocessing
import os
import resource
import shutil
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
from vcvae.training.loop import Trainer, train
from vcvae.training.run_folder import FIGURES, load_run
from vcvae.training.stopping import Stopped, StopRequest
from vcvae.training.tasks import parse
from vcvae.training.tasks.conversion import ConversionConfig, ConversionTask

MINIMAL = {"task": "conversion", "output": "x", "data": {"train": "a", "dev": "b"}}
TRAIN = [sys.executable, "-c", "from vcvae.cli import main; main()", "train"]


def make_values(corpus, output):
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


@pytest.fixture
def values(corpus, tmp_path):
    return make_values(corpus, tmp_path / "run")


def run(values, **changes):
    """Train a copy of `values` with `changes`; returns the folder of the run."""
    return train(parse({**values, **changes}, context="test"), Console(quiet=True))


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """The folder of an uninterrupted run of `values`. Tests must not change it."""
    return run(make_values(corpus, tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="module")
def two_steps(corpus, tmp_path_factory):
    """The folder of a run of two steps, to copy."""
    return run(make_values(corpus, tmp_path_factory.mktemp("two") / "run"), steps=2)


def weights(folder):
    return checkpoint.load(folder)["task"]


def events(folder):
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


@pytest.mark.slow
def test_train_resumes_after_sigkill_and_equals_an_uninterrupted_run(values, tmp_path):
    values |= {"steps": 30, "checkpoint_every": 8, "log_every": 3, "validate_every": 10}
    whole = run(values, output=str(tmp_path / "whole"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values | {"workers": 1}))  # the order of the data does not depend on workers
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([*TRAIN, str(config)], env=environment, stdout=subprocess.DEVNULL)
    saved = tmp_path / "run" / checkpoint.NAME
    while not saved.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < checkpoint.load(tmp_path / "run")["step"] < 30
    run(values)
    assert_same(weights(whole), weights(tmp_path / "run"))
    assert (whole / FIGURES).read_bytes() == (tmp_path / "run" / FIGURES).read_bytes()


@pytest.mark.slow
def test_train_saves_a_checkpoint_and_exits_on_ctrl_c(values, tmp_path):
    values |= {"steps": 100_000, "checkpoint_every": 50_000, "workers": 1}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    process = subprocess.Popen([*TRAIN, str(config)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("step") for line in lines)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does, also to the workers
    assert "run the same command to resume" in "".join(lines)
    assert process.wait() == 0
    assert 0 < checkpoint.load(tmp_path / "run")["step"] < 100_000


def test_train_raises_stopped_after_sigterm_and_then_equals_an_uninterrupted_run(whole, values, tmp_path, monkeypatch):
    """If it returned, a caller would go on with a partly trained model."""
    take_step = Trainer._take_step

    def interrupted(self, batches):
        signal.raise_signal(signal.SIGTERM)
        return take_step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", interrupted)
        with pytest.raises(Stopped):
            run(values)
    assert checkpoint.load(tmp_path / "run")["step"] == 1
    run(values)
    assert_same(weights(whole), weights(tmp_path / "run"))
    assert (whole / FIGURES).read_bytes() == (tmp_path / "run" / FIGURES).read_bytes()


@pytest.mark.parametrize("damage", ["cut off", "a wrong byte", "not there"])
def test_train_goes_on_from_the_checkpoint_before_a_torn_one(whole, values, tmp_path, caplog, damage):
    last = run(values, steps=4) / checkpoint.NAME
    data = bytearray(last.read_bytes())
    if damage == "cut off":
        last.write_bytes(data[: len(data) // 2])
    elif damage == "a wrong byte":
        data[len(data) // 2] ^= 255
        last.write_bytes(data)
    else:  # killed between two renames
        last.unlink()
    run(values)
    expected = [] if damage == "not there" else ["checkpoint.previous.pt, of step 2, is used in its place"]
    assert [text for text in expected if text not in caplog.text] == []
    assert_same(weights(whole), weights(tmp_path / "run"))
    assert (whole / FIGURES).read_bytes() == (tmp_path / "run" / FIGURES).read_bytes()


def test_train_removes_what_a_killed_process_did_not_finish_writing(values):
    folder = run(values, steps=2)
    (folder / checkpoint.BEST).mkdir(exist_ok=True)
    unfinished = [folder / ".checkpoint.pt.1-2.unfinished", folder / checkpoint.BEST / ".step-00000001.pt.3.unfinished"]
    for path in unfinished:
        path.write_bytes(b"half")
    run(values, steps=4)
    assert not any(path.exists() for path in unfinished)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda saved: saved["task"].pop("prototypes"),
            r"'prototypes' is absent here and \(12, 8\) by its configuration",
        ),
        (lambda saved: saved["task"].update(prototypes=torch.zeros(3)), r"'prototypes' is \(3,\) here and \(12, 8\)"),
        (lambda saved: saved["task"]["prototypes"].fill_(torch.nan), "'prototypes' holds NaN or infinite values"),
        (
            lambda saved: saved["optimizers"]["model"]["state"][0].update(exp_avg=torch.zeros(3)),
            r"'0\.exp_avg' is \(3,\) here and \(.*\) by the parameters of optimizers\.model",
        ),
        (
            lambda saved: saved["optimizers"]["model"]["state"][0].pop("exp_avg_sq"),
            r"'0\.exp_avg_sq' is absent here and",
        ),
    ],
)
def test_train_names_what_does_not_fit_in_a_checkpoint(two_steps, values, tmp_path, damage, message):
    folder = shutil.copytree(two_steps, tmp_path / "run")
    saved = torch.load(folder / checkpoint.NAME, weights_only=True)
    damage(saved)
    torch.save(saved, folder / checkpoint.NAME)
    with pytest.raises(VcvaeError, match=rf"checkpoint\.pt: {message}.*; remove it to start the run again\.$"):
        run(values)


def test_stop_request_counts_a_repeated_signal_once_and_obeys_a_second_ctrl_c(monkeypatch):
    with StopRequest() as stop:
        assert not stop.requested
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):  # from a launcher, and from the process group
            signal.raise_signal(number)
        assert stop.requested
        monkeypatch.setattr(StopRequest, "SAME_SIGNAL_SECONDS", 0.0)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_train_reduces_the_loss_and_writes_figures_mels_and_audio(values, tmp_path):
    torch.manual_seed(0)
    # With so few steps the model learns from reconstruction alone, and from unchanged voices.
    values |= {"weights": {"adversarial": 0.0, "feature_matching": 0.0}, "speeds": [1.0]}
    folder = run(values, steps=40, optimizer={"learning_rate": 0.005, "warmup": 5})
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


def test_accumulate_averages_the_gradients_of_batches(values, tmp_path, monkeypatch):
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
    assert min(norms[0]) > 1e-3


@pytest.mark.slow
def test_train_resumes_with_more_steps_and_refuses_another_configuration(values):
    folder = run(values, steps=4)
    run(values, steps=6)
    assert checkpoint.load(folder)["step"] == 6
    with pytest.raises(VcvaeError, match="another value of 'aam_margin'"):
        run(values, aam_margin=0.1)
    run(values, steps=7, optimizer={"learning_rate": 1e-5})  # as the error of a loss that is not finite advises


def test_train_refuses_to_resume_with_other_speakers(values, tmp_path):
    run(values, steps=2)
    fewer = str(make_corpus(tmp_path / "fewer", speakers=3))
    with pytest.raises(VcvaeError, match=r"holds 9 voices, but the run in .* was started with 12; give the same data"):
        run(values, steps=4, data={"train": fewer, "dev": fewer})


def test_train_ends_when_a_loss_is_not_finite_and_keeps_its_checkpoint(values, monkeypatch):
    folder = run(values, steps=4)
    before = (folder / checkpoint.NAME).read_bytes()
    monkeypatch.setattr("vcvae.training.losses.reconstruction", lambda *_: torch.tensor(torch.nan, requires_grad=True))
    with pytest.raises(VcvaeError, match="not finite at step 4"):
        run(values, steps=6)
    assert (folder / checkpoint.NAME).read_bytes() == before


def test_precision_that_is_not_available_is_an_error(values, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr("torch.accelerator.is_available", lambda: False)
        with pytest.raises(VcvaeError, match="precision: fp16 needs a GPU"):
            run(values, precision="fp16")
    run(values, steps=1)
    with pytest.raises(VcvaeError, match=r"precision: bf16 is not available .* start each run in its own process"):
        run(values, precision="bf16")


def test_load_run_of_a_missing_or_broken_checkpoint_is_an_error(values, tmp_path):
    with pytest.raises(VcvaeError, match="no checkpoint here"):
        load_run(tmp_path)
    (tmp_path / checkpoint.NAME).write_bytes(b"nothing")
    with pytest.raises(VcvaeError, match="cannot be read as a checkpoint"):
        load_run(tmp_path)
    torch.save([1, 2], tmp_path / checkpoint.NAME)
    with pytest.raises(VcvaeError, match="not the checkpoint of a run"):
        load_run(tmp_path)


def test_train_ends_on_a_full_disk_and_keeps_its_checkpoint(values):
    folder = run(values, steps=2)
    before = (folder / checkpoint.NAME).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # the largest size of a file
    try:
        with pytest.raises(VcvaeError, match=r"checkpoint.pt: cannot be written .*make room there and run the same"):
            run(values)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (folder / checkpoint.NAME).read_bytes() == before
    assert not list(folder.glob(".*"))
    run(values)
    assert checkpoint.load(folder)["step"] == 6


@pytest.mark.slow
def test_train_ends_when_a_worker_is_killed_and_resumes(whole, values, tmp_path, monkeypatch):
    take_step = Trainer._take_step

    def kill_workers(self, batches):
        if self.step == 3:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)
            time.sleep(0.2)
        return take_step(self, batches)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_take_step", kill_workers)
        with pytest.raises(VcvaeError, match=r"a process that reads audio was killed at step \d+, .*to resume"):
            run(values, workers=1, steps=1000)
    assert checkpoint.load(tmp_path / "run")["step"] == 2
    run(values, workers=1)
    assert_same(weights(whole), weights(tmp_path / "run"))


def test_train_goes_on_when_a_file_becomes_unreadable(values, tmp_path, caplog):
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


def test_override_reaches_nested_keys(tmp_path):
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
    assert parse(read_yaml(path) | MINIMAL, context="").precision == "no"
    path.write_text("steps: [")
    with pytest.raises(VcvaeError, match="not valid YAML"):
        read_yaml(path)


def test_learning_rate_at_rises_and_falls():
    config = OptimizerConfig(learning_rate=1.0, warmup=10, final_share=0.1)
    rates = [config.learning_rate_at(step, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)


def test_conversion_config_needs_output_and_data_only():
    ConversionConfig(output="x", data={"train": "a", "dev": "b"})


def test_train_leaves_the_record_of_a_finished_run_as_it_is(values):
    folder = run(values, batch_speakers=2)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert yaml.safe_load(before["config.yaml"])["batch_speakers"] == 2
    run(values, batch_speakers=3)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    run(values, batch_speakers=3, steps=values["steps"] + 1)
    assert yaml.safe_load((folder / "config.yaml").read_text())["batch_speakers"] == 3
