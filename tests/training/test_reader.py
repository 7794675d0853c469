import re

import pytest
import torch
from safetensors.torch import save_file

from tests.corpus import RECOGNIZER, make_corpus
from vcvae.data.manifest import Manifest
from vcvae.models.moonshine import MoonshineConfig, MoonshineEncoder
from vcvae.models.reader import Reader, ReaderConfig
from vcvae.training import reader
from vcvae.training.reader import agreement, make_reader


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return MoonshineEncoder(MoonshineConfig(**RECOGNIZER)).eval().requires_grad_(False)


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path / "corpus", speakers=3)


def test_it_reads_what_the_teacher_reads_and_nearly_so_with_few_values(teacher, corpus):
    paths = [path for path, _ in Manifest(corpus, 22050).utterances()]
    many, few = (
        make_reader(teacher, paths, ReaderConfig(**RECOGNIZER, values=values), count=len(paths)) for values in (256, 3)
    )
    assert agreement(many, teacher, paths) > 0.999
    rough = agreement(few, teacher, paths)
    assert rough < 0.995
    refined = make_reader(teacher, paths, ReaderConfig(**RECOGNIZER, values=3), count=len(paths), steps=60)
    assert 1 - agreement(refined, teacher, paths) < 0.8 * (1 - rough)


def test_the_command_writes_one_that_can_be_loaded_and_twice_the_same(teacher, corpus, tmp_path, vcvae, monkeypatch):
    monkeypatch.setattr(reader, "load_moonshine", lambda *_, **__: teacher)
    monkeypatch.setattr(reader, "ReaderConfig", lambda: ReaderConfig(**RECOGNIZER))
    made = [tmp_path / name for name in ("one", "two")]
    for folder in made:
        code, out, _ = vcvae("reader", str(corpus), str(folder), "--count", "4", "--steps", "3")
        assert code == 0
        assert re.fullmatch(rf"{folder}: written; .* is (-?0\.\d\d|1\.00)\n", out)
    one, two = (Reader.from_pretrained(folder).state_dict() for folder in made)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (made[0] / "README.md").is_file()
    code, _, err = vcvae("reader", str(corpus), str(made[0]))
    assert code == 2
    assert "--force" in err


def test_without_data_or_teacher_it_is_one_sentence(corpus, tmp_path, vcvae):
    (tmp_path / "empty").mkdir()
    code, _, err = vcvae("reader", str(corpus), str(tmp_path / "made"), "--teacher", str(tmp_path / "empty"))
    assert code == 2
    assert "no model.safetensors in this folder" in err
    save_file({"model.encoder.conv1.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    code, _, err = vcvae("reader", str(corpus), str(tmp_path / "made"), "--teacher", str(tmp_path))
    assert code == 2
    assert "by the smallest public checkpoint" in err
    assert not (tmp_path / "made").exists()
