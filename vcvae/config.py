"""Configurations are pydantic models: typed, documented field by field, and strict about unknown keys.

(pydantic rather than omegaconf: the types are Python's own, so an editor and a reader know them, and a wrong value is
found when the file is read, not in the tenth epoch.)
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
    def parse(cls: type[C], values: dict[str, Any], *, where: str) -> C:
        """Validate nested `values`; `where` (a file name, say) begins the message when they are wrong.

        Raises:
            VcvaeError: an unknown key (the nearest known one is named) or a value of the wrong type or range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise VcvaeError(f"{where}: {_explain(cls, error)}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, over that of the file that its key `base` names, if it has one.

    A base is found from where the file lies, and may have one itself. Groups of keys are joined, all else is replaced.

    Raises:
        VcvaeError: the file, or a base of it, is missing, is not YAML, or holds something else than a mapping; or it
            is its own base, in however many steps.
    """
    return _inherit(Path(path), [])


def _inherit(path: Path, heirs: list[Path]) -> dict[str, Any]:
    if path.resolve() in heirs:
        raise VcvaeError(f"{path}: is its own base; let 'base' name a file that does not come back to this one.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        if heirs:
            raise VcvaeError(f"{heirs[-1]}: its base {path} {reason}; give a path from where the file lies.") from None
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
    return _join(_inherit(path.parent / base, [*heirs, path.resolve()]), values)


def _join(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` wins, group by group."""
    joined = dict(values)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(joined.get(key), dict)
        joined[key] = _join(joined[key], value) if both else value
    return joined


def override(values: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """`values` with assignments such as `optimizer.learning_rate=1e-3` applied; the right side is read as YAML.

    Raises:
        VcvaeError: an assignment without `=`, or one that goes through a value that is not a mapping.
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
    known = list(config.model_fields)
    nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
    return f"unknown key '{name}'; did you mean '{'.'.join([*map(str, parents), nearest])}'?"
