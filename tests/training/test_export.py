import json
import re
import subprocess

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.corpus import TINY
from tests.properties import QUICK, read_or_refused
from vcvae import environment, load_model
from vcvae.errors import VcvaeError
from vcvae.training import checkpoint
from vcvae.training.export import export
from vcvae.training.loop import train
from vcvae.training.run_folder import FIGURES, load_run, read_figures
from vcvae.training.tasks import parse


@pytest.fixture(scope="module")
def run(tmp_path_factory, corpus):
    """A run of four steps with validations after the second and the fourth."""
    folder = tmp_path_factory.mktemp("run")
    values = {
        "task": "conversion",
        "output": str(folder / "exp" / "tiny"),
        "data": {"train": str(corpus), "dev": str(corpus)},
        "steps": 4,
        "batch_speakers": 2,
        "segment_frames": 32,
        "workers": 0,
        "validate_every": 2,
        "validation_speakers": 2,
        "keep_best": 2,
        "log_every": 2,
        "model": TINY,
        "discriminator": {"channels": 16},
        "conversions_from": 2,
    }
    return train(parse(values, context="test"), Console(quiet=True))


def test_run_folder_has_configuration_environment_and_figures(run):
    assert yaml.safe_load((run / "config.yaml").read_text())["best_by"] == "lowest reconstruction"
    made = json.loads((run / "environment.json").read_text())
    assert made["torch"] == environment.environment()["torch"]
    assert made.keys() >= environment.git_state().keys()
    lines = read_figures(run)
    assert [(line["step"], line["group"]) for line in lines] == [(2, "train"), (2, "dev"), (4, "train"), (4, "dev")]
    assert lines[3]["reconstruction"] == checkpoint.load(run)["validation"]["figures"]["reconstruction"]
    assert sorted(path.name for path in (run / checkpoint.BEST).iterdir()) == ["step-00000002.pt", "step-00000004.pt"]


def test_export_writes_the_ema_and_a_model_card(run, tmp_path):
    assert export(run, tmp_path / "model") == 4
    config, task = load_run(run)
    mel = torch.randn(1, 80, 30)
    model = load_model(tmp_path / "model")
    torch.testing.assert_close(model.content(mel).mean, task.released.half().float().content(mel).mean)
    card = (tmp_path / "model" / "README.md").read_text()
    figures = {line["group"]: line for line in read_figures(run)}["dev"]
    assert re.search(rf"at step 4: .*\breconstruction {figures['reconstruction']:.4g}\b", card)
    assert "4 of 4 steps" in card
    assert f"4 speakers, 0.2 min ({config.data.train})" in card
    assert "For its author to add: its licence" in card
    resolved = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert parse(resolved, context="card") == config


def test_export_small_differs_by_rounding_only(run, tmp_path):
    folders = [tmp_path / name for name in ("model", "small")]
    for folder, small in zip(folders, (False, True), strict=True):
        export(run, folder, small=small)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in folders]
    assert sizes[1] < sizes[0]
    mel = torch.randn(1, 80, 30)
    first = load_model(folders[0]).content(mel).mean
    second = load_model(folders[1]).content(mel).mean
    assert 0 < (first - second).abs().max() < 0.1


def test_export_best_writes_the_best_checkpoint(run, tmp_path):
    costs = {line["step"]: line["reconstruction"] for line in read_figures(run) if line["group"] == "dev"}
    step = export(run, tmp_path / "best", best=True)
    assert costs[step] == min(costs.values())
    assert f"at step {step}:" in (tmp_path / "best" / "README.md").read_text()
    weights = checkpoint.load_best(run, "lowest reconstruction")["task"]["ema.module.decoder.head.weight"]
    assert torch.equal(load_model(tmp_path / "best").decoder.head.weight, weights.half().float())


def test_export_keeps_an_edited_card(run, tmp_path):
    export(run, tmp_path)
    (tmp_path / "README.md").write_text("edited")
    with pytest.raises(VcvaeError, match="holds a model already"):
        export(run, tmp_path)
    export(run, tmp_path, force=True)
    assert (tmp_path / "README.md").read_text() == "edited"


def test_export_without_a_checkpoint_is_an_error(run, tmp_path):
    with pytest.raises(VcvaeError, match="no checkpoint here"):
        export(tmp_path, tmp_path / "model")
    checkpoint.save(tmp_path, checkpoint.load(run))
    with pytest.raises(VcvaeError, match="no best checkpoint here"):
        export(tmp_path, tmp_path / "model", best=True)
    assert not (tmp_path / "model").exists()


LINE = '{"step": 5, "group": "train", "reconstruction": 0.5}\n'


@pytest.mark.parametrize("torn", ["", "\0\0\0", LINE[:20], "{", LINE.strip()])
def test_read_figures_skips_a_last_line_that_is_cut_off(tmp_path, torn):
    (tmp_path / FIGURES).write_text(LINE * 2 + torn)
    assert len(read_figures(tmp_path)) == 2 + (torn == LINE.strip())


@pytest.mark.parametrize(
    "wrong",
    ["{}", "5", "[1]", "null", '{"step": "x", "group": "train"}', '{"step": 1, "group": "train", "a": "b"}', "{"],
)
def test_read_figures_names_a_line_that_is_not_one_of_figures(tmp_path, wrong):
    (tmp_path / FIGURES).write_text(f"{LINE}{wrong}\n{LINE}")
    with pytest.raises(VcvaeError, match=r"figures\.jsonl: line 2 is not one of figures"):
        read_figures(tmp_path)


@QUICK
@given(st.binary(max_size=60), st.integers(0, len(LINE)))
def test_read_figures_returns_lines_or_refuses_whatever_the_bytes(tmp_path, data, place):
    log = LINE[:place].encode() + data + LINE[place:].encode()
    for line in read_or_refused(lambda path: read_figures(path.parent), tmp_path / FIGURES, log) or []:
        assert isinstance(line["step"], int)
        assert line["group"] in ("train", "dev")


def test_git_state_is_that_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.git_state() == {}
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    (tmp_path / "file").write_text("one")
    for arguments in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "one")):
        subprocess.run(["git", *arguments], check=True)
    clean = environment.git_state()
    assert (len(clean["git_commit"]), clean["git_dirty"]) == (40, "no")
    (tmp_path / "file").write_text("two")
    assert environment.git_state() == clean | {"git_dirty": "yes"}
