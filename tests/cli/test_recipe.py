import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile as sf
import torch
import yaml

from tests.synthetic import speak
from vcvae.cli import recipe
from vcvae.cli.recipe import FINISHED, run
from vcvae.errors import VcvaeError
from vcvae.models.classic.autoencoder import AutoEncoder, AutoEncoderConfig


@pytest.fixture
def place(tmp_path):
    """A recipe of three steps: a recording's mel, its code, and a description of the model."""
    torch.manual_seed(0)
    AutoEncoder(AutoEncoderConfig(latent=4, channels=16, blocks=1)).save_pretrained(tmp_path / "model")
    sf.write(tmp_path / "src.wav", speak("aiu", seconds=0.5), 22050)
    steps = [
        ("mel", "encode mel {source} -o {output}/mel.npy --force", "{output}/mel.npy"),
        ("code", "encode code {source} --model {recipe}/model -o {output}/code.npz --force", "{output}/code.npz"),
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
                Path(word).touch()
            elif word.endswith("/prepared"):
                for name in ("train", "dev"):
                    Path(word, name).mkdir(parents=True)
                    Path(word, name, "cuts.jsonl.gz").touch()
        return 2 if words[0] in fail else 0

    monkeypatch.setattr(recipe, "_call", call)
    call.commands, call.fail = commands, fail
    return call


@pytest.mark.slow
def test_run_calls_the_commands(place, capfd):
    lines = []
    run(place, lines.append, last="mel")
    assert (place / "out" / "mel.npy").exists()
    assert not (place / "out" / "code.npz").exists()
    assert lines[1].startswith("[1/1] mel: vcvae encode mel ")
    assert "float32 (80, " in capfd.readouterr().out
    (place / "model" / "model.safetensors").unlink()
    with pytest.raises(VcvaeError, match=r"the step 'code' failed \(exit code 2\); correct the cause and run the same"):
        run(place, lines.append)
    assert "[1/3] mel: finished before" in lines
    assert list(json.loads((place / "out" / FINISHED).read_text())) == ["mel"]


def test_run_skips_finished_steps_and_resumes_at_a_failed_one(place, called):
    called.fail.add("info")
    with pytest.raises(VcvaeError, match="the step 'info'"):
        run(place, print)
    assert called.commands == ["encode", "encode", "info"]
    called.fail.clear()
    run(place, print)
    assert called.commands == ["encode", "encode", "info", "info"]
    run(place, print)
    assert len(called.commands) == 4


def test_run_repeats_the_steps_after_a_repeated_one(place, called):
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


def test_run_refuses_what_no_step_takes(place, called):
    with pytest.raises(VcvaeError, match=r"--launch: has no effect for .*: it has no step of training; leave it out"):
        run(place, print, launch=place / "launch.yaml")
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    values["steps"] = values["steps"][2:]
    (place / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(VcvaeError, match=r"--source: has no effect for .*: no step of it takes \{source\}"):
        run(place, print, source=place / "src.wav")
    assert called.commands == []


def test_fingerprint_depends_on_the_configuration_files(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("steps: 1")
    before = recipe._fingerprint(["train", str(file)])
    assert recipe._fingerprint(["train", str(file)]) == before
    file.write_text("steps: 2")
    assert recipe._fingerprint(["train", str(file)]) != before


def test_is_complete_when_the_last_step_of_a_run_was_validated(tmp_path):
    assert not recipe._is_complete(str(tmp_path / "run"))
    (tmp_path / "config.yaml").write_text("steps: 100")
    assert not recipe._is_complete(str(tmp_path))
    (tmp_path / "figures.jsonl").write_text('{"step": 50, "group": "dev"}\n{"step": 100, "group": "train"}\n')
    assert not recipe._is_complete(str(tmp_path))
    (tmp_path / "figures.jsonl").write_text('{"step": 100, "group": "dev"}\n')
    assert recipe._is_complete(str(tmp_path))


def test_run_fails_where_an_output_is_missing(place, called, monkeypatch):
    monkeypatch.setattr(recipe, "_call", lambda *_: 0)
    with pytest.raises(VcvaeError, match=r"mel\.npy is missing or incomplete"):
        run(place, print)


def test_run_launches_training_by_accelerate(monkeypatch, tmp_path):
    started = []

    class Process:
        def __init__(self, command, **_):
            started.append(command[1:])

        def wait(self):
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    recipe._call(["train", "a.yaml"], tmp_path / "eight.yaml")
    recipe._call(["export", "a", "b"], tmp_path / "eight.yaml")
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "eight.yaml")]
    assert started == [[*launch, "-m", "vcvae", "train", "a.yaml"], ["-m", "vcvae", "export", "a", "b"]]


def test_run_replaces_keys_and_options_of_the_recipe(place, monkeypatch):
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    values["options"] = {"speed": 3, "kind": "mel"}
    values["steps"] = [{"name": "a", "command": "python {recipe}/a.py {corpus} {speed} {kind}", "makes": ["{recipe}"]}]
    (place / "recipe.yaml").write_text(yaml.safe_dump(values))
    calls = []
    monkeypatch.setattr(recipe, "_call", lambda words, _: calls.append(words) or 0)
    lines = []
    run(place, lines.append)
    run(place, print, assignments=["options.speed=4", "corpus=vctk"])
    assert calls == [["python", f"{place}/a.py", *rest] for rest in (["folder", "3", "mel"], ["vctk", "4", "mel"])]
    assert lines[1] == f"[1/1] a: python {place}/a.py folder 3 mel"
    with pytest.raises(VcvaeError, match=r"--set options.sped: .*no such option; it has kind, speed"):
        run(place, print, assignments=["options.sped=4"])
    with pytest.raises(VcvaeError, match="unknown key 'corpsu'; did you mean 'corpus'"):
        run(place, print, assignments=["corpsu=vctk"])


def test_run_runs_a_script_with_this_python(place, capfd):
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    values["steps"] = [{"name": "a", "command": "python {recipe}/a.py 5", "makes": ["{recipe}/made"]}]
    (place / "recipe.yaml").write_text(yaml.safe_dump(values))
    (place / "a.py").write_text("import sys, vcvae\nopen(__file__[:-4] + 'made', 'w').write(sys.argv[1])")
    run(place, print)
    assert (place / "made").read_text() == "5"


def test_run_keeps_a_finished_training_run_and_says_so(place, called):
    """It was trained on the data of before."""
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    values["steps"].insert(1, {"name": "train", "command": "train a.yaml", "makes": ["{output}/run"]})
    (place / "recipe.yaml").write_text(yaml.safe_dump(values).replace("a.yaml", str(place / "a.yaml")))
    (place / "a.yaml").write_text("steps: 1")
    (place / "out" / "run").mkdir(parents=True)
    (place / "out" / "run" / "config.yaml").write_text("steps: 1")
    (place / "out" / "run" / "figures.jsonl").write_text('{"step": 1, "group": "dev"}\n')
    note = f"{place}/out/run: is a finished run and stays as it is; remove it to train again"
    lines = []
    run(place, lines.append)
    assert note not in lines
    run(place, lines.append)
    assert note not in lines
    run(place, lines.append, first="mel")
    assert lines.count(note) == 1


def test_run_passes_sigterm_to_the_step_and_waits_for_it(monkeypatch):
    """A signal reaches this process only; a training left running would write into the folder of the next one."""
    calls = []

    class Process:
        def __init__(self, command, **_):
            pass

        def wait(self):
            if not calls:
                os.kill(os.getpid(), signal.SIGTERM)
            calls.append("waited for")
            return 0

        def terminate(self):
            calls.append("terminated")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(KeyboardInterrupt):
        recipe._call(["train", "a.yaml"], None)
    assert calls == ["terminated", "waited for"]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell a child of it")
def test_run_ends_its_step_when_it_is_killed():
    step = "import time; print('started', flush=True); time.sleep(60)"
    program = f"from vcvae.cli import recipe; recipe._call([recipe.PYTHON, '-c', {step!r}], None)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "started\n"
        start = time.monotonic()
        process.kill()
        assert process.stdout.read() == ""  # it is open as long as the step lives
    assert time.monotonic() - start < 30


def test_run_waits_for_an_interrupted_step(monkeypatch):
    """Ctrl-C reaches both; the step saves what it has, and only then does the run end."""
    waits = []

    class Process:
        def __init__(self, command, **_):
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
def test_run_refuses_wrong_options_in_one_sentence(place, options, message):
    with pytest.raises(VcvaeError, match=message):
        run(place, print, **options)


def test_run_refuses_a_wrong_recipe_in_one_sentence(place):
    with pytest.raises(VcvaeError, match="no such recipe; give the folder of one"):
        run(place / "nowhere", print)
    with pytest.raises(VcvaeError, match=r"recipe\.yaml: cannot be read"):
        run(place / "model", print)
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    (place / "recipe.yaml").write_text(yaml.safe_dump(values | {"steps": values["steps"][:1] * 2}))
    with pytest.raises(VcvaeError, match="two steps have the same name"):
        run(place, print)
    (place / "recipe.yaml").write_text(yaml.safe_dump(values | {"abuot": ""}))
    with pytest.raises(VcvaeError, match="unknown key 'abuot'; did you mean 'about'"):
        run(place, print)


def test_find_recipe_looks_in_the_current_folder_first_and_then_in_the_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe.find_recipe(Path("recipes/mini")) == recipe.CLONE / "recipes" / "mini" / "recipe.yaml"
    (tmp_path / "recipes" / "mini").mkdir(parents=True)
    assert recipe.find_recipe(Path("recipes/mini")) == Path("recipes/mini/recipe.yaml")


def test_find_recipe_asks_for_a_clone_where_the_package_is_installed_without_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe, "CLONE", tmp_path / "site-packages")
    with pytest.raises(VcvaeError, match=r"^recipes/mini: not in the current folder, .* clone the repository"):
        recipe.find_recipe(Path("recipes/mini"))


def test_recipe_with_recordings_of_the_repository_runs_from_any_folder(tmp_path, monkeypatch, called):
    monkeypatch.chdir(tmp_path)
    lines = []
    run(Path("recipes/mini"), lines.append, last="prepare")
    voices = recipe.CLONE / "egs" / "encoders" / "voices"
    assert voices.is_dir()
    assert f"vcvae prepare folder {voices} exp/mini/prepared " in lines[1]


def test_recipe_without_the_recordings_of_the_repository_asks_for_a_clone(tmp_path, called):
    (tmp_path / "mini").mkdir()
    text = (recipe.CLONE / "recipes" / "mini" / "recipe.yaml").read_text()
    (tmp_path / "mini" / "recipe.yaml").write_text(text)
    with pytest.raises(VcvaeError, match=r"its recordings, .*voices, are missing; .* clone it"):
        run(tmp_path / "mini", print)
    assert called.commands == []


NO_FORMAT = [
    "{",
    "}",
    "a}",
    "{0}",
    "{}",
    "{{output}}",
    "{output.__class__}",
    "{output!r}",
    "{output:>99999999}",
    "{foo}",
]


@pytest.mark.parametrize("text", NO_FORMAT)
@pytest.mark.parametrize("where", ["command", "makes", "source"])
def test_run_fills_in_names_and_nothing_else(place, called, text, where):
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    if where == "source":
        values["source"] = text
    else:
        old = values["steps"][1][where]
        values["steps"][1][where] = [text] if isinstance(old, list) else f"{old} {text}"
    (place / "recipe.yaml").write_text(yaml.safe_dump(values))
    context = "'source'" if where == "source" else "the step 'code'"
    with pytest.raises(VcvaeError, match=rf"recipe\.yaml: {context}: '[^']*' stands for nothing; use {{\w+}}"):
        run(place, print)
    assert called.commands == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("command", "encode 'mel", r"no command \(no closing quotation\)"),
        ("command", "encode mel\\", r"no command \(no escaped character\)"),
        ("command", "rm -rf x", "no command; begin it with convert"),
        ("command", "--help", "no command; begin it with convert"),
        ("command", "", "no command; begin it with convert"),
        ("makes", [""], "'makes' holds an empty name"),
    ],
)
def test_run_refuses_a_wrong_step_before_any_is_run(place, called, key, value, message):
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    values["steps"][2][key] = value
    (place / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(VcvaeError, match=rf"recipe\.yaml: the step 'info': .*{message}"):
        run(place, print)
    assert called.commands == []


@pytest.mark.parametrize("text", ["", "null", "[]", "5", '{"mel": 1}', '{"mel": "a"', "[" * 100_000, "\xff\0"])
def test_run_refuses_a_list_of_finished_steps_that_is_none(place, called, text):
    (place / "out").mkdir()
    (place / "out" / FINISHED).write_text(text)
    with pytest.raises(VcvaeError, match=r"steps\.json: (an empty file|not the list of finished steps; remove it)"):
        run(place, print)
    assert called.commands == []


@pytest.mark.parametrize("output", ["", "/", "{place}/src.wav", "/dev/null"])
def test_run_refuses_an_output_that_is_no_folder(place, called, output):
    values = yaml.safe_load((place / "recipe.yaml").read_text())
    values["output"] = output.format(place=place)
    (place / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(VcvaeError, match=r"empty path|root of the disk|is no folder|a device"):
        run(place, print)
    assert called.commands == []


@pytest.mark.parametrize("text", ["a: [", "- 1", "steps: many", "{}"])
def test_is_complete_refuses_a_run_whose_configuration_is_none(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(VcvaeError, match=r"config\.yaml"):
        recipe._is_complete(str(tmp_path))
