"""Every recipe is run in miniature, and every key is explained."""

from pathlib import Path

import pytest
import soundfile as sf
from rich.console import Console

from tests.corpus import TINY, make_corpus
from tests.synthetic import speak
from vcvae.config import Config, read_yaml
from vcvae.models.gmm_conversion import GMMConversion
from vcvae.training import checkpoint
from vcvae.training.conversion import ConversionConfig
from vcvae.training.family import AutoEncoderRun, DenoisingRun, VAERun
from vcvae.training.loop import train
from vcvae.training.parallel import ParallelConfig
from vcvae.training.tasks import parse
from vcvae.training.texture import TextureConfig
from vcvae.training.vocoder import VocoderConfig

RECIPES = Path(__file__).parents[1] / "recipes"
WHERE = {"output": "", "data": {"train": "", "dev": ""}}
PAGES = {
    "folder": [ConversionConfig(**WHERE), TextureConfig(**WHERE, converter="")],
    "vocoder": [VocoderConfig(**WHERE)],
    "family": [
        AutoEncoderRun(**WHERE),
        DenoisingRun(**WHERE),
        VAERun(**WHERE),
        ParallelConfig(output="", source="", target=""),
    ],
}
PARALLEL = RECIPES / "family" / "gmm_conversion.yaml"
# The smallest networks that have all their parts; a run that starts from weights must keep their sizes.
SMALLER = {
    "folder/conversion.yaml": {"model": TINY},
    "folder/texture.yaml": {"converter": "vcvae/pretrained/conversion", "critic": {"channels": [4, 8, 8, 8]}},
    "vocoder/vocoder.yaml": {"model": {"channels": 16, "blocks": 1}},
    "vocoder/large.yaml": {"model": {"channels": 16, "blocks": 1}, "discriminators": {}},
    "vocoder/finetune.yaml": {},
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
    [path for path in sorted(RECIPES.glob("*/*.yaml")) if path != PARALLEL],
    ids=lambda path: str(path.relative_to(RECIPES)),
)
def test_a_recipe_runs_in_miniature(path, tmp_path):
    corpus = str(make_corpus(tmp_path / "corpus", speakers=2))
    smaller = {"steps": 2, "batch_speakers": 2, "segment_frames": 32, "workers": 0, "validation_speakers": 2}
    smaller |= SMALLER[str(path.relative_to(RECIPES))]
    places = {"output": str(tmp_path / "run"), "data": {"train": corpus, "dev": corpus}}
    train(parse(read_yaml(path) | smaller | places, where=str(path)), Console(quiet=True))
    assert checkpoint.load(tmp_path / "run")["step"] == 2


def test_the_parallel_recipe_runs_in_miniature(tmp_path):
    for name in ("low", "high"):
        (tmp_path / name).mkdir()
        for i in range(3):
            samples = speak("aiueo", pitch={"low": 110, "high": 170}[name], seed=i)
            sf.write(tmp_path / name / f"{i}.wav", samples, 22050)
    places = {"output": str(tmp_path / "model"), "source": str(tmp_path / "low"), "target": str(tmp_path / "high")}
    train(parse(read_yaml(PARALLEL) | places | {"model": {"components": 2}}, where="test"), Console(quiet=True))
    assert GMMConversion.from_pretrained(tmp_path / "model").octaves > 0.5
