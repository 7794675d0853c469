import pytest

from vcvae.config import read_yaml
from vcvae.errors import VcvaeError


def test_read_yaml_merges_a_file_over_its_base(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "first.yaml").write_text("steps: 5\nmodel:\n  width: 1\n  mel: {hop: 2, bands: 3}\nlist: [1, 2]\n")
    (tmp_path / "deep" / "second.yaml").write_text("base: ../first.yaml\nmodel:\n  mel:\n    hop: 4\nlist: [3]\n")
    (tmp_path / "third.yaml").write_text("base: deep/second.yaml\nsteps: null\nnew: {a: 1}\nmodel: {width: 7}\n")
    assert read_yaml(tmp_path / "third.yaml") == {
        "steps": None,
        "model": {"width": 7, "mel": {"hop": 4, "bands": 3}},
        "list": [3],
        "new": {"a": 1},
    }


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("nowhere.yaml", r"a\.yaml: its base .*nowhere\.yaml cannot be read \(No such file or directory\)"),
        ("a.yaml", r"a\.yaml: is its own base"),
        ("b.yaml", r"a\.yaml: is its own base"),
        ("[1]", r"a\.yaml: 'base' is \[1\]; name one YAML file"),
        ("broken.yaml", r"broken\.yaml: not valid YAML"),
        ("empty.yaml", r"empty\.yaml: holds no keys"),
    ],
)
def test_read_yaml_names_a_base_that_cannot_be_used(tmp_path, base, message):
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "a.yaml").write_text(f"base: {base}\nsteps: 1")
    with pytest.raises(VcvaeError, match=message):
        read_yaml(tmp_path / "a.yaml")
