"""Every recipe is run in miniature, and every key is explained."""

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

from tests.corpus import TINY, make_corpus
from tests.synthetic import speak
from vcvae.cli import app, recipe
from vcvae.cli.recipe import FILE, Recipe
from vcvae.config import Config, read_yaml
from vcvae.data.prepare import MANIFEST
from vcvae.models.classic.gmm_conversion import GMMConversion
from vcvae.models.conversion.vae import DisentanglingConfig, DisentanglingVAE
from vcvae.training import checkpoint
from vcvae.training.loop import train
from vcvae.training.tasks import parse
from vcvae.training.tasks.autoencoders import AutoEncoderRun, DenoisingRun, VAERun
from vcvae.training.tasks.conversion import ConversionConfig
from vcvae.training.tasks.gmm import ParallelConfig
from vcvae.training.tasks.postfilter import PostfilterConfig
from vcvae.training.tasks.vocoder import VocoderConfig

RECIPES = Path(__file__).parents[1] / "recipes"
WHERE = {"output": "", "data": {"train": "", "dev": ""}}
PAGES = {
    "folder": [ConversionConfig(**WHERE), PostfilterConfig(**WHERE, converter="")],
    "vocoder": [VocoderConfig(**WHERE)],
    "family": [
        AutoEncoderRun(**WHERE),
        DenoisingRun(**WHERE),
        VAERun(**WHERE),
        ParallelConfig(output="", source="", target=""),
    ],
}
LAUNCH = RECIPES / "accelerate"
PARALLEL = RECIPES / "family" / "gmm_conversion.yaml"
NOT_TRAINED_HERE = {PARALLEL, *RECIPES.glob(f"*/{FILE}"), *LAUNCH.glob("*.yaml")}
# The smallest networks that have all their parts; a run that starts from weights must keep their sizes.
SMALLER = {
    "folder/conversion.yaml": {"model": TINY},
    "folder/postfilter.yaml": {"losses": {"channels": [4, 8, 8, 8]}},
    "vocoder/vocoder.yaml": {"model": {"channels": 16, "blocks": 1}},
    "vocoder/large.yaml": {"model": {"channels": 16, "blocks": 1}, "discriminators": {}},
    "vocoder/finetune.yaml": {
        "start": "vcvae/pretrained/vocoder",
        "teacher": "griffin-lim",
        "precision": "no",
        "discriminators": {},
        "adversarial_from": 0,
    },
    "family/autoencoder.yaml": {"model": {"channels": 16, "blocks": 1}},
    "family/denoising.yaml": {"model": {"channels": 16, "blocks": 1}},
    "family/vae.yaml": {"model": {"channels": 16, "blocks": 1}},
}


def keys(config: Config, prefix: str = "") -> list[str]:
    """A table row for each key of a configuration and its value, nested ones by their full name."""
    rows = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            rows += keys(value, f"{prefix}{name}.")
        else:
            assert field.description, f"{prefix}{name} has no description"
            rows.append(f"| `{prefix}{name}` | {'' if field.is_required() else f'`{value}`'} | {field.description} |")
    return rows


@pytest.mark.parametrize(("folder", "defaults"), PAGES.items(), ids=PAGES.keys())
def test_the_readme_explains_every_key(folder, defaults):
    page = (RECIPES / folder / "README.md").read_text()
    missing = [row for config in defaults for row in keys(config) if row not in page]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted(RECIPES.glob("*/*.yaml"))
        if path != PARALLEL and path.name != FILE and path.parent != LAUNCH
    ],
    ids=lambda path: str(path.relative_to(RECIPES)),
)
def test_a_recipe_runs_in_miniature(path, tmp_path, monkeypatch):
    corpus = str(make_corpus(tmp_path / "corpus", speakers=2))
    smaller = {"steps": 2, "batch_speakers": 2, "segment_frames": 32, "workers": 0, "validation_speakers": 2}
    # The recipes of corpora are that of a folder, on other data.
    name = str(path.relative_to(RECIPES))
    smaller |= SMALLER[name] if name in SMALLER else SMALLER[f"folder/{path.name}"]
    places = {"output": str(tmp_path / "run"), "data": {"train": corpus, "dev": corpus}}
    if path.name == "postfilter.yaml":
        DisentanglingVAE(DisentanglingConfig(**TINY)).save_pretrained(tmp_path / "converter")
        places["converter"] = str(tmp_path / "converter")
    train(parse(read_yaml(path) | smaller | places, context=str(path)), Console(quiet=True))
    assert checkpoint.load(tmp_path / "run")["step"] == 2


def test_the_parallel_recipe_runs_in_miniature(tmp_path):
    for name in ("low", "high"):
        (tmp_path / name).mkdir()
        for i in range(3):
            samples = speak("aiueo", f0={"low": 110, "high": 170}[name], seed=i)
            sf.write(tmp_path / name / f"{i}.wav", samples, 22050)
    places = {"output": str(tmp_path / "model"), "source": str(tmp_path / "low"), "target": str(tmp_path / "high")}
    train(parse(read_yaml(PARALLEL) | places | {"model": {"components": 2}}, context="test"), Console(quiet=True))
    assert GMMConversion.from_pretrained(tmp_path / "model").octaves > 0.5


def test_mini_runs_whole(tmp_path, monkeypatch, vcvae):
    """All its commands on the voices that it names, with two steps of each training."""
    shutil.copytree(RECIPES, tmp_path / "recipes")
    (tmp_path / "egs").symlink_to(RECIPES.parent / "egs")
    for name in ("conversion", "postfilter"):
        path = tmp_path / "recipes" / "mini" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"steps": 2, "workers": 0}))
    monkeypatch.chdir(tmp_path)
    alone = {"prepare": ["--jobs", "1"]}
    monkeypatch.setattr(recipe, "_call", lambda words, _: vcvae(*words, *alone.get(words[0], []))[0])
    said = []
    recipe.run(Path("recipes/mini"), said.append)
    assert said[-1] == "recipes/mini: done"
    assert len(said) == 2 + 7
    source, converted = (sf.info(path).duration for path in ("egs/convert/source.flac", "exp/mini/converted.wav"))
    assert converted == pytest.approx(source, abs=1e-3)
    page = Path("exp/mini/evaluation/report.html")
    played = re.findall(r'src="([^"]+\.(?:wav|flac))"', page.read_text())
    assert len(played) == 3 * 12
    assert all((page.parent / name).is_file() for name in played)
    said.clear()
    recipe.run(Path("recipes/mini"), said.append)
    assert sum(line.endswith(": done before") for line in said) == 7


STEPS = [
    (path.parent, name, words, makes)
    for path in sorted(RECIPES.glob(f"*/{FILE}"))
    for name, words, makes in Recipe.read(path.parent).resolved(path.parent.relative_to(RECIPES.parent))
]


@pytest.mark.parametrize(("folder", "name", "words", "makes"), STEPS, ids=[f"{f.name}-{n}" for f, n, *_ in STEPS])
def test_a_step_of_a_recipe_is_a_command_and_makes_what_the_next_one_needs(folder, name, words, makes, monkeypatch):
    command, *arguments = words
    known = get_command(app).commands
    if command not in known or (command == "prepare" and "corpus" not in [p.name for p in known[command].params]):
        pytest.skip(f"'vcvae {command}' is not there in this form yet")
    known[command].make_context(command, list(arguments))  # exits where an option or an argument is unknown or missing
    monkeypatch.chdir(RECIPES.parent)
    made = [one for at, other, _, ones in STEPS if at == folder and other != name for one in ones]
    if command == "train":
        config = parse(read_yaml(arguments[0]), context=arguments[0])
        assert config.output in makes
        for split in (config.data.train, config.data.dev):
            assert f"{split}/{MANIFEST}" in made
        if config.task == "postfilter":
            assert f"{config.converter}/model.safetensors" in made
    if command == "export":
        assert arguments[0] in made
        assert makes == [f"{arguments[1]}/model.safetensors"]


def test_every_corpus_has_a_recipe_and_every_recipe_a_page():
    corpora = {Recipe.read(path.parent).corpus for path in RECIPES.glob(f"*/{FILE}")}
    assert corpora >= {"vctk", "libritts", "librispeech", "cmu-arctic", "aishell3", "folder"}
    for folder in RECIPES.iterdir():
        if folder.is_dir() and folder != LAUNCH:
            assert (folder / "README.md").is_file(), folder
            assert f"]({folder.name}/README.md)" in (RECIPES / "README.md").read_text()


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_its_configurations(path):
    config = load_config_from_file(str(path))
    name = path.stem
    machines, each = {"one_gpu": (1, 1), "eight_gpus": (1, 8), "two_nodes": (2, 8), "two_cpus": (1, 2)}[name]
    assert (config.num_machines, config.num_processes) == (machines, machines * each)
    assert config.use_cpu == (name == "two_cpus")
    assert config.mixed_precision == "no"  # a configuration's own key says otherwise
    script = (LAUNCH / "slurm.sh").read_text()
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
