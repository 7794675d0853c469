"""The recipes: each configuration can be read, some are trained in miniature, and their steps fit together."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile as sf
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from rich.console import Console
from typer.main import get_command

from tests.corpus import TINY
from tests.synthetic import speak
from vcvae.cli import app, recipe
from vcvae.cli.recipe import RECIPE_FILE, Recipe
from vcvae.config import Config, read_yaml
from vcvae.data.cuts import MANIFEST
from vcvae.models.classic.gmm_conversion import GMMConversion
from vcvae.training import checkpoint
from vcvae.training.joint_density import JointDensityConfig, fit
from vcvae.training.loop import train
from vcvae.training.tasks import TASKS, parse

RECIPES = Path(__file__).parents[1] / "recipes"
LAUNCH = RECIPES / "accelerate"
JOINT_DENSITY = RECIPES / "family" / "gmm_conversion.yaml"
ABLATION = RECIPES.parent / "egs" / "ablation"
TRAINING = [
    path
    for path in sorted([*RECIPES.rglob("*.yaml"), *ABLATION.glob("*.yaml")])
    if path.name != RECIPE_FILE and path.parent != LAUNCH and path != JOINT_DENSITY
]
# Trained in miniature: of the recipes of corpora, which differ in paths and steps only, one.
SMALLER = {
    "vctk/conversion.yaml": {"model": TINY, "discriminator": {"channels": 16}},
    "vctk/postfilter.yaml": {"discriminator": {"channels": [4, 8, 8, 8]}},
    "vocoder/vocoder.yaml": {"model": {"channels": 16, "blocks": 1}},
    "vocoder/finetune.yaml": {  # keeps the sizes of the weights that it starts from
        "init_from": "vcvae/pretrained/vocoder",
        "teacher": "griffin-lim",
        "precision": "no",
        "discriminators": {},
        "adversarial_from": 0,
    },
    "family/autoencoder.yaml": {"model": {"channels": 16, "blocks": 1}},
    "family/denoising.yaml": {"model": {"channels": 16, "blocks": 1}},
    "family/vae.yaml": {"model": {"channels": 16, "blocks": 1}},
}


def name_of(path):
    return str(path.relative_to(RECIPES.parent))


@pytest.mark.parametrize("path", TRAINING, ids=name_of)
def test_configuration_can_be_read(path):
    config = parse(read_yaml(path), context=str(path))
    assert config.output.startswith("exp/")
    assert config.data.train != config.data.dev


@pytest.mark.parametrize("path", [*TRAINING, JOINT_DENSITY], ids=name_of)
def test_configuration_states_its_cost_and_expected_figures(path):
    comment = " ".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert "Cost" in comment
    assert re.search("expect(ed|ation)", comment, re.IGNORECASE)


@pytest.mark.parametrize("config", [*(config for config, _ in TASKS.values()), JointDensityConfig])
def test_every_key_has_a_description(config):
    def check(config, prefix=""):
        for name, field in config.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
                check(field.annotation, f"{prefix}{name}.")
            else:
                assert field.description, f"{prefix}{name} has no description"

    check(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLER)
def test_configuration_trains_in_miniature(name, corpus, tiny_model, tmp_path):
    path = RECIPES / name
    values = read_yaml(path) | SMALLER[name]
    values |= {"steps": 2, "batch_speakers": 2, "segment_frames": 32, "workers": 0, "validation_speakers": 2}
    values |= {"output": str(tmp_path / "run"), "data": {"train": str(corpus), "dev": str(corpus)}}
    if path.name == "postfilter.yaml":
        values["converter"] = str(tiny_model)
    train(parse(values, context=str(path)), Console(quiet=True))
    assert checkpoint.load(tmp_path / "run")["step"] == 2


def test_joint_density_is_fitted_in_miniature(tmp_path):
    for name, f0 in (("low", 110), ("high", 170)):
        (tmp_path / name).mkdir()
        for i in range(3):
            sf.write(tmp_path / name / f"{i}.wav", speak("aiueo", f0=f0, seed=i), 22050)
    values = read_yaml(JOINT_DENSITY) | {"model": {"components": 2}, "output": str(tmp_path / "model")}
    values |= {"source": str(tmp_path / "low"), "target": str(tmp_path / "high")}
    fit(JointDensityConfig.parse(values, context=str(JOINT_DENSITY)))
    assert GMMConversion.from_pretrained(tmp_path / "model").octaves > 0.5


@pytest.mark.slow
def test_mini_runs_from_corpus_to_conversion(tmp_path, monkeypatch, vcvae):
    """All its commands on its own voices, with two steps of each training and three conversions to evaluate."""
    copy = tmp_path / "recipes" / "mini"
    shutil.copytree(RECIPES, tmp_path / "recipes")
    (tmp_path / "egs").symlink_to(RECIPES.parent / "egs")
    for name in ("conversion", "postfilter", "conversion_losses"):
        path = copy / f"{name}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"steps": 2, "workers": 0}))
    monkeypatch.chdir(tmp_path)
    smaller = {"prepare": ["--jobs", "1"], "evaluate": ["--count", "3"]}
    monkeypatch.setattr(recipe, "_call", lambda words, _: vcvae(*words, *smaller.get(words[0], []))[0])
    lines = []
    recipe.run(copy, lines.append)
    assert lines[-1].endswith("recipes/mini: finished")
    assert len(lines) == 2 + 9
    source = sf.info("egs/convert/source.flac").duration
    assert sf.info("exp/mini/converted.wav").duration == pytest.approx(source, abs=1e-3)
    page = Path("exp/mini/evaluation/report.html")
    recordings = re.findall(r'src="([^"]+\.(?:wav|flac))"', page.read_text())
    assert len(recordings) == 3 * 3
    assert all((page.parent / name).is_file() for name in recordings)
    lines.clear()
    recipe.run(copy, lines.append)
    assert sum(line.endswith(": finished before") for line in lines) == 9


def resolved(file):
    """The steps of a recipe, from the folder of the repository."""
    values = Recipe.read(file)
    return values.resolved(file.parent.relative_to(RECIPES.parent), Path(values.source))


RECIPE_FILES = sorted([*RECIPES.glob(f"*/{RECIPE_FILE}"), ABLATION / RECIPE_FILE])
STEPS = [(file, step) for file in RECIPE_FILES for step in resolved(file)]


@pytest.mark.parametrize(("file", "step"), STEPS, ids=[f"{file.parent.name}-{step.name}" for file, step in STEPS])
def test_step_is_a_command_and_makes_what_other_steps_need(file, step, monkeypatch):
    command, *arguments = step.words
    monkeypatch.chdir(RECIPES.parent)
    if command == recipe.PYTHON:
        assert Path(arguments[0]).is_file()
        return
    # Exits if an option or an argument is unknown or missing.
    get_command(app).commands[command].make_context(command, list(arguments))
    made = [path for other in resolved(file) if other.name != step.name for path in other.makes]
    if command == "train":
        config = parse(read_yaml(arguments[0]), context=arguments[0])
        assert config.output in step.makes
        for split in (config.data.train, config.data.dev):
            assert f"{split}/{MANIFEST}" in made
        for key in ("converter", "speaker_net", "content_net"):
            if getattr(config, key, None):
                assert f"{getattr(config, key)}/model.safetensors" in made
    if command == "export":
        assert arguments[0] in made
        assert step.makes == [f"{arguments[1]}/model.safetensors"]


def test_variants_of_the_ablation_differ_from_the_whole_in_one_respect():
    values = {name: read_yaml(ABLATION / f"{name}.yaml") for name in ("all", "cosine", "no-content", "no-own")}
    whole = parse(values.pop("all"), context="all").model_dump(exclude={"output"})
    for name, variant in values.items():
        config = parse(variant, context=name).model_dump(exclude={"output"})
        differing = {key for key in whole if whole[key] != config[key]}
        assert differing == {"own_share" if name == "no-own" else "weights"}
    narrow = parse(read_yaml(ABLATION / "conversion-64.yaml"), context="64")
    wide = parse(read_yaml(ABLATION / "conversion.yaml"), context="128")
    assert (narrow.model.content_latent, wide.model.content_latent) == (64, 128)


def test_every_corpus_has_a_recipe_and_every_recipe_a_readme():
    corpora = {Recipe.read(file).corpus for file in RECIPE_FILES}
    assert corpora >= {"vctk", "libritts", "librispeech", "cmu-arctic", "aishell3", "folder"}
    for folder in RECIPES.iterdir():
        if folder.is_dir() and folder != LAUNCH:
            assert (folder / "README.md").is_file(), folder
            assert f"]({folder.name}/README.md)" in (RECIPES / "README.md").read_text()


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_its_configurations(path):
    config = load_config_from_file(str(path))
    expected = {"one_gpu": (1, 1), "eight_gpus": (1, 8), "two_nodes": (2, 8), "two_cpus": (1, 2)}
    machines, processes_each = expected[path.stem]
    assert (config.num_machines, config.num_processes) == (machines, machines * processes_each)
    assert config.use_cpu == (path.stem == "two_cpus")
    assert config.mixed_precision == "no"  # the key `precision` of a training's configuration sets it


@pytest.mark.parametrize("name", ["accelerate/slurm.sh", "release/gpu.sh"])
def test_script_is_valid_bash(name):
    script = (RECIPES / name).read_text()
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
