import json
import os
from functools import partial

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import QUICK, read_or_refused
from vcvae.documents import dump_yaml, parse_yaml, read_json, read_yaml_file
from vcvae.errors import VcvaeError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
# Pieces of YAML that are more than they look.
TRAPS = st.lists(
    st.sampled_from(
        [*"[]{}:,-?!&*<>|%@'\"\n\t 0", "&a ", "*a", "<<: ", "!!int ", "---\n", "\n- ", "key: ", ".inf", "1:2"]
    ),
    max_size=30,
).map("".join)


@QUICK
@given(st.binary(max_size=200) | TRAPS.map(str.encode))
def test_read_yaml_file_returns_a_mapping_or_refuses_whatever_the_bytes(tmp_path, data):
    assert isinstance(
        read_or_refused(partial(read_yaml_file, advice="give another"), tmp_path / "a.yaml", data), dict | None
    )


@QUICK
@given(st.binary(max_size=200) | PLAIN.map(json.dumps).map(str.encode))
def test_read_json_returns_a_mapping_or_refuses_whatever_the_bytes(tmp_path, data):
    values = read_or_refused(partial(read_json, advice="give another"), tmp_path / "a.json", data)
    assert values is None or values == json.loads(data.decode("utf-8-sig"))


@QUICK
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8), PLAIN, max_size=4))
def test_dump_yaml_is_read_back_as_it_was(values):
    assert parse_yaml(dump_yaml(values), context="here") == values
    assert yaml.safe_load(dump_yaml(values)) == values  # by other readers as well


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: " + "[" * 3000, "line 2: nested deeper than 32"),
        (BOMB, r"line 5: more than 10,000 values"),
        ("steps: &x [*x]", "line 1: .x stands within what it stands for"),
        ("a: 1\nsteps: " + "9" * 5000, r"line 2: '9+…? cannot be read as int"),
        ("steps: 0x" + "f" * 5000, r"line 1: '0xf+…? cannot be read as int"),
        ("steps: !!float abc", "line 1: 'abc' cannot be read as float"),
        ("steps: !!bool maybe", "line 1: 'maybe' cannot be read as bool"),
        ("steps: !!python/object/apply:os.system ['true']", "line 1: the tag .*os.system has no meaning here"),
        ("steps: !!timestamp 2001-13-45", "line 1: the tag .*timestamp has no meaning here"),
        ("steps: 1\nsteps: 2", "line 2: the key 'steps' appears twice"),
        ("1: 2", "line 1: a key must be text"),
        ("? [a, b]\n: 1", "line 1: a key must be text"),
        ("---\nsteps: 1\n---\nsteps: 2", "line 3: but found another document"),
        ("<<: *nothing", "line 1: found undefined alias"),
        ("<<: 5", "line 1: expected a mapping"),
        ("\tsteps: 1", r"line 1: found character '\\t'"),
        ("a: \0", "special characters are not allowed"),
    ],
)
def test_parse_yaml_names_the_line_of_what_no_configuration_holds(text, message):
    with pytest.raises(VcvaeError, match=f"here: not valid YAML \\((.*){message}"):
        parse_yaml(text, context="here")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:2:3", "1:2:3"),
        ("190:20:30", "190:20:30"),
        ("2001-01-01", "2001-01-01"),
        ("1e-3", 0.001),
        ("5.0e-4", 0.0005),
        ("010", 10),
        ("1_000", 1000),
        ("0x10", 16),
        ("-.inf", float("-inf")),
        ("no", False),
        ("=", "="),
    ],
)
def test_parse_yaml_reads_scalars_as_they_look(text, value):
    parsed = parse_yaml(text, context="here")
    assert parsed == value or int(parsed) == value
    assert type(parsed) in (type(value), str)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' * 40 + "1" + "}" * 40, '{"a": ' + "9" * 5000 + "}", "5", "[1]"]
)
def test_read_json_refuses_what_is_too_deep_or_no_mapping(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(VcvaeError, match=r"a\.json: not (valid JSON|the JSON that belongs there)"):
        read_json(tmp_path / "a.json", advice="give another")


def test_readers_refuse_what_is_no_file_or_too_large(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.yaml").write_text("# " + "x" * 2**18)
    for name in (".", "pipe", "none", "a\0b", "/dev/zero", "large.yaml"):
        with pytest.raises(VcvaeError, match=r"; give"):
            read_yaml_file(tmp_path / name, advice="give another")
