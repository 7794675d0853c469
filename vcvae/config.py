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
    """The mapping that a YAML file holds.

    Raises:
        VcvaeError: the file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise VcvaeError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VcvaeError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise VcvaeError(f"{path}: holds no keys; a configuration is a mapping such as 'steps: 1000'.")
    return values


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
