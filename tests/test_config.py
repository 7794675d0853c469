import importlib
import pkgutil
from typing import Annotated, Literal, get_args, get_origin

import annotated_types
import pytest

import vcvae
from vcvae.config import Config, override, read_yaml
from vcvae.errors import VcvaeError
from vcvae.training.tasks import parse


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
        (
            "nowhere.yaml",
            r"nowhere\.yaml: cannot be read \(No such file or directory\); .*a\.yaml names it as its base",
        ),
        ("a.yaml", r"a\.yaml: is its own base"),
        ("b.yaml", r"a\.yaml: is its own base"),
        ("[1]", r"a\.yaml: 'base' is \[1\]; name one YAML file"),
        ("broken.yaml", r"broken\.yaml: not valid YAML"),
        ("empty.yaml", r"empty\.yaml: an empty file"),
        ("comment.yaml", r"comment\.yaml: holds no keys"),
    ],
)
def test_read_yaml_names_a_base_that_cannot_be_used(tmp_path, base, message):
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "comment.yaml").write_text("# steps: 1")
    (tmp_path / "a.yaml").write_text(f"base: {base}\nsteps: 1")
    with pytest.raises(VcvaeError, match=message):
        read_yaml(tmp_path / "a.yaml")


def fields():
    """Every field of every configuration, as (class, name, annotation, constraints)."""
    for module in pkgutil.walk_packages(vcvae.__path__, "vcvae."):
        if not module.name.endswith("__main__") and not module.name.startswith("vcvae.serve"):  # an extra
            importlib.import_module(module.name)
    classes = [Config]
    for config in classes:
        classes += config.__subclasses__()
        if not config.__module__.startswith("vcvae."):
            continue  # of another test
        for name, field in config.model_fields.items():
            yield config, name, field.annotation, field.metadata


def unbounded(annotation, constraints):
    """Whether a number in an annotation has no least or no greatest value, or a list no greatest length."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        more = [c for part in parts[1:] for c in getattr(part, "metadata", [part])]
        return unbounded(parts[0], [*constraints, *more])
    if annotation in (int, float):
        return not (
            any(isinstance(c, annotated_types.Ge | annotated_types.Gt) for c in constraints)
            and any(isinstance(c, annotated_types.Le | annotated_types.Lt) for c in constraints)
        )
    if get_origin(annotation) is tuple:
        endless = ... in parts and not any(isinstance(c, annotated_types.MaxLen) for c in constraints)
        return endless or any(unbounded(part, []) for part in parts if part is not ...)
    return get_origin(annotation) is not Literal and any(unbounded(part, constraints) for part in parts)


def test_every_number_of_every_configuration_has_a_range():
    assert [f"{config.__name__}.{name}" for config, name, *field in fields() if unbounded(*field)] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_speakers": 10**9}, "'batch_speakers' is wrong: .* less than or equal to 4096"),
        ({"batch_speakers": 4096, "segments": 64, "segment_frames": 128}, "batch_speakers .* at most 2,097,152"),
        ({"validation_speakers": 10**9}, "'validation_speakers' is wrong"),
        ({"workers": 100_000}, "'workers' is wrong"),
        ({"speeds": []}, "'speeds' is wrong: .* at least 1 item"),
        ({"speeds": [True]}, "'speeds' is wrong: a number is needed, not true or false"),
        ({"steps": True}, "'steps' is wrong: a number is needed, not true or false"),
        ({"steps": 2**70}, "'steps' is wrong"),
        ({"steps": "190:20:30"}, "'steps' is wrong"),
        ({"steps": ["x"] * 1000}, r"'steps' is wrong: .*…\)\.$"),
        ({"output": "a\0b"}, "'output' is wrong: text must be one line .* without control characters"),
        ({"data": {"train": "a\n", "dev": "b"}}, r"'data\.train' is wrong: text must be one line"),
        ({"output": "a" * 70_000}, r"'output' is wrong: .*at most 4096 characters, .*…\)\.$"),
        ({"optimizer": {"learning_rate": float("nan")}}, "'optimizer.learning_rate' is wrong"),
        ({"optimizer": {"clip": float("inf")}}, "'optimizer.clip' is wrong"),
        ({"model": {"fast_channels": 2**63}}, "'model.fast_channels' is wrong"),
        ({"model": {"reference_heads": 3}}, "'model' is wrong: reference_heads must divide slow_channels"),
        ({"model": {"mel": {"n_mels": 600}}}, "more than the bins of n_fft"),
        ({"content_input": {"noise_level": [-15, -45]}}, "'content_input.noise_level' is wrong: a range must rise"),
        ({"discriminator": {"strides": []}}, "'discriminator.strides' is wrong"),
        ({"discriminator": {"strides": [0]}}, "'discriminator.strides.0' is wrong"),
    ],
)
def test_parse_refuses_absurd_values_in_one_sentence_that_names_the_key(change, message):
    minimal = {"task": "conversion", "output": "x", "data": {"train": "a", "dev": "b"}}
    with pytest.raises(VcvaeError, match=message) as refused:
        parse(minimal | change, context="config.yaml")
    assert str(refused.value).startswith("config.yaml: ")
    assert len(str(refused.value)) < 300


class Inner(Config):
    width: int = 0


class Outer(Config):
    group: Inner = Inner()
    one: Inner | None = None
    many: list[Inner] = []  # noqa: RUF012 – pydantic copies it
    named: dict[str, Inner] = {}  # noqa: RUF012


WRONG = {"widht": 1}


@pytest.mark.parametrize(
    "values", [{"group": WRONG}, {"one": WRONG}, {"many": [{"width": 1}, WRONG]}, {"named": {"a": WRONG}}]
)
def test_parse_names_the_nearest_key_of_any_group(values):
    with pytest.raises(VcvaeError, match=r"^a\.yaml: unknown key '.*widht'; did you mean '.*width'\?$"):
        Outer.parse(values, context="a.yaml")


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
    minimal = {"task": "conversion", "output": "x", "data": {"train": "a", "dev": "b"}}
    assert parse(read_yaml(path) | minimal, context="").precision == "no"
    path.write_text("steps: [")
    with pytest.raises(VcvaeError, match="not valid YAML"):
        read_yaml(path)


def test_read_yaml_refuses_a_long_chain_of_bases(tmp_path):
    for number in range(1200):
        (tmp_path / f"{number}.yaml").write_text(f"base: {number + 1}.yaml")
    with pytest.raises(VcvaeError, match=r"16\.yaml: is the base of a base, 16 times; write the keys into fewer"):
        read_yaml(tmp_path / "0.yaml")
