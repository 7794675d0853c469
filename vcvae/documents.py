"""YAML and JSON files, read with limits: what comes back is plain values, few and shallow enough to be checked.

YAML is read as its version 1.2 reads it where 1.1 is a trap: 190:20:30 and 2001-01-01 are text, 1e-3 is a number, 010
is ten. An alias counts as all that it stands for, a key that appears twice is an error, and so is any tag beyond text,
numbers, true and false, null, lists and mappings.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from vcvae.errors import VcvaeError, check_file, disk_errors, reason, shorten

MAX_YAML_BYTES, MAX_JSON_BYTES = 2**18, 2**24
MAX_DEPTH = 32
MAX_YAML_VALUES = 10_000
MAX_BITS = 1024  # of a whole number

_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012  as pyyaml declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_TAG) in ("bool", "null", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.values = 0
        self.values_of: dict[int, int] = {}  # values within each node

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        event = self.peek_event()
        if self.depth == MAX_DEPTH:
            raise _error(f"nested deeper than {MAX_DEPTH} levels", event)
        self.depth += 1
        before = self.values
        node = super().compose_node(parent, index)
        self.depth -= 1
        if not isinstance(event, yaml.AliasEvent):
            self.values += 1
            self.values_of[id(node)] = self.values - before
        elif id(node) in self.values_of:
            self.values += self.values_of[id(node)]
        else:
            raise _error(f"*{event.anchor} stands within what it stands for", event)
        if self.values > MAX_YAML_VALUES:
            raise _error(f"more than {MAX_YAML_VALUES:,} values", event)
        if node.tag not in _TAGS:
            raise _error(f"the tag {node.tag} has no meaning here", event)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if key.tag not in (_TAG + "str", _TAG + "merge"):
                raise _error("a key must be text; put it in quotes", key)
            if key.value in keys:
                raise _error(f"the key '{shorten(key.value)}' appears twice", key)
            keys.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > MAX_BITS:  # it could not even be printed
                raise ValueError
            return value
        except (ValueError, KeyError, IndexError):
            kind = node.tag.removeprefix(_TAG)
            raise _error(f"{shorten(repr(node.value))} cannot be read as {kind}", node) from None


_Loader.add_implicit_resolver(_TAG + "int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for a number."""


_Dumper.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))


def _error(problem: str, at: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def parse_yaml(text: str, *, context: str) -> Any:
    """The value of YAML text; error messages begin with `context`, such as a file name.

    Raises:
        VcvaeError: it is not YAML, or holds more than a configuration can.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or reason(error)
        raise VcvaeError(f"{context}: not valid YAML ({place}{problem}).") from None


def dump_yaml(values: dict[str, Any]) -> str:
    """The YAML text of nested plain values, in their order; `parse_yaml` gives them back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def read_yaml_file(path: str | Path, *, advice: str) -> dict[str, Any]:
    """The mapping in a YAML file; `advice` ends the message about a file that cannot be read.

    Raises:
        VcvaeError: it cannot be read, is larger than a configuration, is not YAML, or holds no mapping.
    """
    values = parse_yaml(read_text(path, MAX_YAML_BYTES, advice=advice), context=str(path))
    if not isinstance(values, dict):
        raise VcvaeError(f"{path}: holds no keys; a configuration is a mapping such as 'steps: 1000'.")
    return values


def read_json(path: str | Path, *, advice: str) -> dict[str, Any]:
    """The mapping in a JSON file; `advice` ends the message about a file that cannot be read.

    Raises:
        VcvaeError: it cannot be read, is too large, too deep, not JSON, or holds no mapping.
    """
    try:
        values = json.loads(read_text(path, MAX_JSON_BYTES, advice=advice))
    except ValueError as error:  # also a number of thousands of digits
        raise VcvaeError(f"{path}: not valid JSON ({reason(error)}); {advice}.") from None
    except RecursionError:
        raise VcvaeError(f"{path}: not valid JSON (nested too deep); {advice}.") from None
    if not isinstance(values, dict) or _is_deeper(values, MAX_DEPTH):
        raise VcvaeError(
            f"{path}: not the JSON that belongs there, keys and values in at most {MAX_DEPTH} levels; {advice}."
        )
    return values


def read_text(path: str | Path, max_bytes: int, *, advice: str) -> str:
    """The UTF-8 text of a file, with or without a byte order mark.

    Raises:
        VcvaeError: it cannot be read, is no file, is larger than `max_bytes`, or not text.
    """
    data = read_bytes(path, max_bytes, advice=advice)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VcvaeError(f"{path}: not UTF-8 text (byte {error.start}); {advice}.") from None


def read_bytes(path: str | Path, max_bytes: int, *, advice: str) -> bytes:
    """All of a file.

    Raises:
        VcvaeError: it cannot be read, is no file, or is larger than `max_bytes`.
    """
    check_file(path, advice=advice)
    with disk_errors(path, "read", advice=advice), open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise VcvaeError(f"{path}: larger than {max_bytes / 2**20:g} MiB, which no such file is; {advice}.")
    return data


def _is_deeper(values: Any, depth: int) -> bool:
    level = [values]
    for _ in range(depth):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    return bool(level)
