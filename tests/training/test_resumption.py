"""A training that was interrupted, in whatever way, goes on as if it had not been."""

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

from tests.corpus import make_corpus
from tests.training.runs import assert_same, make_values, run, weights
from vcvae.errors import VcvaeError
from vcvae.training import checkpoint
from vcvae.training.loop import Trainer
from vcvae.training.run_folder import FIGURES
from vcvae.training.stopping import Stopped

TRAIN = [sys.executable, "-c", "from vcvae.cli import main; main()", "train"]


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """The folder of an uninterrupted run of `values`. Tests must not change it."""
    return run(make_values(corpus, tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="module")
def two_steps(corpus, tmp_path_factory):
    """The folder of a run of two steps, to copy."""
    return run(make_values(corpus, tmp_path_factory.mktemp("two") / "run"), steps=2)


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


def test_train_leaves_the_record_of_a_finished_run_as_it_is(values):
    folder = run(values, batch_speakers=2)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert yaml.safe_load(before["config.yaml"])["batch_speakers"] == 2
    run(values, batch_speakers=3)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    run(values, batch_speakers=3, steps=values["steps"] + 1)
    assert yaml.safe_load((folder / "config.yaml").read_text())["batch_speakers"] == 3
