"""Configurations are pydantic models: typed, documented field by field, and strict about unknown keys.

(pydantic rather than omegaconf: editors understand the types, and a wrong value is an error when the file is read, not
when it is used.)
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vcvae.errors import VcvaeError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every configuration: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls: type[C], values: dict[str, Any], *, context: str) -> C:
        """Validate nested `values`; error messages begin with `context`, such as a file name.

        Raises:
            VcvaeError: an unknown key (the nearest valid key is named) or a value of the wrong type or range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise VcvaeError(f"{context}: {_explain(cls, error)}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, merged over that of the file that its key `base` names, if any.

    The path of a base is relative to the file; a base may have a base itself. Nested mappings are merged, other values
    replaced.

    Raises:
        VcvaeError: the file or one of its bases is missing, is not YAML, or is no mapping; or a base is circular.
    """
    return _inherit(Path(path), [])


def _inherit(path: Path, derived: list[Path]) -> dict[str, Any]:
    if path.resolve() in derived:
        raise VcvaeError(f"{path}: is its own base, directly or through other files; give another 'base'.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        if derived:
            raise VcvaeError(f"{derived[-1]}: its base {path} {reason}; give a path relative to the file.") from None
        raise VcvaeError(f"{path}: {reason}; give the path of a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VcvaeError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise VcvaeError(f"{path}: holds no keys; a configuration is a mapping such as 'steps: 1000'.")
    if "base" not in values:
        return values
    base = values.pop("base")
    if not isinstance(base, str):
        raise VcvaeError(f"{path}: 'base' is {base!r}; name one YAML file.")
    return _join(_inherit(path.parent / base, [*derived, path.resolve()]), values)


def _join(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` replaces `values`, except that nested mappings are merged."""
    joined = dict(values)
    for key, value in over.items():
        merge = isinstance(value, dict) and isinstance(joined.get(key), dict)
        joined[key] = _join(joined[key], value) if merge else value
    return joined


def override(values: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """`values` with assignments such as `optimizer.learning_rate=1e-3` applied; the right side is read as YAML.

    Raises:
        VcvaeError: an assignment without `=`, or one whose key is within a value that is no mapping.
    """
    values = dict(values)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise VcvaeError(f"--set {assignment}: write it as key=value, such as --set steps=1000.")
        *parents, last = key.split(".")
        level = values
        for parent in parents:
            if not isinstance(level.get(parent, {}), dict):
                raise VcvaeError(f"--set {assignment}: '{parent}' is not a group of keys.")
            level[parent] = dict(level.get(parent, {}))
            level = level[parent]
        try:
            level[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise VcvaeError(f"--set {assignment}: the value is not valid YAML.") from None
    return values


def _explain(config: type[Config], error: ValidationError) -> str:
    first = error.errors()[0]
    *parents, key = first["loc"] or ("",)
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"the key '{name}' is missing."
    if first["type"] != "extra_forbidden":
        return f"'{name}' is wrong: {first['msg']} (it is {first['input']!r})." if name else f"{first['msg']}."
    for parent in parents:
        config = config.model_fields[parent].annotation
    valid = list(config.model_fields)
    nearest = difflib.get_close_matches(str(key), valid, n=1, cutoff=0.0)[0]
    return f"unknown key '{name}'; did you mean '{'.'.join([*map(str, parents), nearest])}'?"
