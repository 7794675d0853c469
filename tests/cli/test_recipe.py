import json
import os
import signal
import subprocess

import pytest
import soundfile as sf
import torch
import yaml

from tests.synthetic import speak
from vcvae.cli import recipe
from vcvae.cli.recipe import DONE, run
from vcvae.errors import VcvaeError
from vcvae.models.classic.autoencoder import AutoEncoder, AutoEncoderConfig


@pytest.fixture
def place(tmp_path):
    """A recipe of three steps: a recording, as code, spoken again."""
    torch.manual_seed(0)
    AutoEncoder(AutoEncoderConfig(latent=4, channels=16, blocks=1)).save_pretrained(tmp_path / "model")
    sf.write(tmp_path / "src.wav", speak("aiu", seconds=0.5), 22050)
    steps = [
        ("mel", "encode {source} --mel -o {output}/mel.npy --force", "{output}/mel.npy"),
        ("code", "encode {source} --code --model {recipe}/model -o {output}/code.npz --force", "{output}/code.npz"),
        ("info", "info {recipe}/model", "{recipe}/model"),
    ]
    values = {
        "about": "a test",
        "corpus": "folder",
        "source": str(tmp_path / "src.wav"),
        "output": str(tmp_path / "out"),
        "steps": [{"name": name, "command": command, "makes": [makes]} for name, command, makes in steps],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


@pytest.fixture
def called(monkeypatch):
    """The commands that would have been run; what they make is made, and those that are named fail."""
    commands, fail = [], set()

    def call(words, launch):
        commands.append(words[0])
        for word in words:
            if word.endswith((".npy", ".npz")):
                open(word, "w").close()
        return 2 if words[0] in fail else 0

    monkeypatch.setattr(recipe, "_call", call)
    call.commands, call.fail = commands, fail
    return call


def test_the_steps_are_really_run(place, capfd):
    said = []
    run(place, said.append, last="mel")
    assert (place / "out" / "mel.npy").exists()
    assert not (place / "out" / "code.npz").exists()
    assert said[1].startswith("[1/1] mel: vcvae encode ")
    assert "float32 (80, " in capfd.readouterr().out
    (place / "model" / "model.safetensors").unlink()
    with pytest.raises(VcvaeError, match=r"the step 'code' did not end well \(exit code 2\); mend it and run the same"):
        run(place, said.append)
    assert "[1/3] mel: done before" in said
    assert list(json.loads((place / "out" / DONE).read_text())) == ["mel"]


def test_what_is_done_is_left_out_and_what_failed_goes_on(place, called):
    called.fail.add("info")
    with pytest.raises(VcvaeError, match="the step 'info'"):
        run(place, print)
    assert called.commands == ["encode", "encode", "info"]
    called.fail.clear()
    run(place, print)
    assert called.commands == ["encode", "encode", "info", "info"]
    run(place, print)
    assert len(called.commands) == 4


def test_what_comes_after_a_step_that_is_done_again_is_done_again(place, called):
    run(place, print)
    called.commands.clear()
    (place / "out" / "code.npz").unlink()
    run(place, print)
    assert called.commands == ["encode", "info"]
    called.commands.clear()
    run(place, print, first="mel", last="code")
    assert called.commands == ["encode", "encode"]
    called.commands.clear()
    run(place, print, source=place / "other.wav")  # other commands
    assert called.commands == ["encode", "encode", "info"]


def test_a_changed_configuration_is_another_command(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("steps: 1")
    before = recipe._fingerprint(["train", str(file)])
    assert recipe._fingerprint(["train", str(file)]) == before
    file.write_text("steps: 2")
    assert recipe._fingerprint(["train", str(file)]) != before


def test_a_run_is_whole_when_its_last_step_was_validated(tmp_path):
    assert not recipe._complete(str(tmp_path / "run"))
    (tmp_path / "config.yaml").write_text("steps: 100")
    assert not recipe._complete(str(tmp_path))
    (tmp_path / "figures.jsonl").write_text('{"step": 50, "group": "dev"}\n{"step": 100, "group": "train"}\n')
    assert not recipe._complete(str(tmp_path))
    (tmp_path / "figures.jsonl").write_text('{"step": 100, "group": "dev"}\n')
    assert recipe._complete(str(tmp_path))


def test_a_step_that_makes_nothing_has_failed(place, called, monkeypatch):
    monkeypatch.setattr(recipe, "_call", lambda *_: 0)
    with pytest.raises(VcvaeError, match=r"mel\.npy is not there, or not whole"):
        run(place, print)


def test_training_may_be_launched_by_accelerate(monkeypatch, tmp_path):
    started = []

    class Process:
        def __init__(self, command):
            started.append(command[1:])

        def wait(self):
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    recipe._call(["train", "a.yaml"], tmp_path / "eight.yaml")
    recipe._call(["export", "a", "b"], tmp_path / "eight.yaml")
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "eight.yaml")]
    assert started == [[*launch, "-m", "vcvae", "train", "a.yaml"], ["-m", "vcvae", "export", "a", "b"]]


def test_a_finished_run_is_not_trained_anew_and_it_is_said(place, called):
    """Its output would be a run on what was there before."""
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    values["steps"].insert(1, {"name": "train", "command": "train a.yaml", "makes": ["{output}/run"]})
    (place / "recipe.yaml").write_text(yaml.safe_dump(values).replace("a.yaml", str(place / "a.yaml")))
    (place / "a.yaml").write_text("steps: 1")
    (place / "out" / "run").mkdir(parents=True)
    (place / "out" / "run" / "config.yaml").write_text("steps: 1")
    (place / "out" / "run" / "figures.jsonl").write_text('{"step": 1, "group": "dev"}\n')
    note = f"{place}/out/run: is a finished run, and stays as it is; remove it, to train anew on what comes before"
    said = []
    run(place, said.append)
    assert note not in said
    run(place, said.append)
    assert note not in said
    run(place, said.append, first="mel")
    assert said.count(note) == 1


def test_a_step_is_told_of_sigterm_and_waited_for(monkeypatch):
    """Who started the recipe knows only this process; a training that went on alone would meet the next one."""
    told = []

    class Process:
        def __init__(self, command):
            pass

        def wait(self):
            if not told:
                os.kill(os.getpid(), signal.SIGTERM)
            told.append("waited for")
            return 0

        def terminate(self):
            told.append("terminated")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(KeyboardInterrupt):
        recipe._call(["train", "a.yaml"], None)
    assert told == ["terminated", "waited for"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interrupted_step_is_waited_for(monkeypatch):
    """Ctrl-C reaches both; the step saves what it has, and only then does the run end."""
    waits = []

    class Process:
        def __init__(self, command):
            pass

        def wait(self):
            waits.append(len(waits))
            if len(waits) == 1:
                raise KeyboardInterrupt
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(KeyboardInterrupt):
        recipe._call(["train", "a.yaml"], None)
    assert waits == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": "mels"}, "--from mels: .* has no such step; it has mel, code, info"),
        ({"last": "x"}, "--to x: .* has no such step"),
        ({"first": "info", "last": "mel"}, "--from info: comes after --to mel"),
    ],
)
def test_wrong_options_are_one_sentence(place, options, message):
    with pytest.raises(VcvaeError, match=message):
        run(place, print, **options)


def test_a_wrong_recipe_is_one_sentence(place):
    with pytest.raises(VcvaeError, match="is not there; give the folder of a recipe"):
        run(place / "nowhere", print)
    with pytest.raises(VcvaeError, match=r"recipe\.yaml: cannot be read"):
        run(place / "model", print)
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    (place / "recipe.yaml").write_text(yaml.safe_dump(values | {"steps": values["steps"][:1] * 2}))
    with pytest.raises(VcvaeError, match="two steps have one name"):
        run(place, print)
    (place / "recipe.yaml").write_text(yaml.safe_dump(values | {"abuot": ""}))
    with pytest.raises(VcvaeError, match="unknown key 'abuot'; did you mean 'about'"):
        run(place, print)
