"""Configurations are pydantic models: typed, documented field by field, and strict about unknown keys.

(pydantic rather than omegaconf: editors understand the types, and a wrong value is an error when the file is read, not
when it is used.)
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from vcvae.documents import parse_yaml, read_yaml_file
from vcvae.errors import VcvaeError, shorten

C = TypeVar("C", bound="Config")


def _rises(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("a range must rise, from its lower to its higher end")
    return pair


Decibels = Annotated[float, Field(ge=-120, le=120)]
DecibelRange = Annotated[tuple[Decibels, Decibels], AfterValidator(_rises)]
PositiveRange = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1000)], Annotated[float, Field(gt=0, le=1000)]], AfterValidator(_rises)
]
MAX_BASES = 16  # files that a configuration is merged over
MAX_TEXT = 4096  # characters of a path or a name


class Config(BaseModel):
    """Base of every configuration: immutable, and an unknown key is an error.

    Every number has a least and a greatest value (a test sees to it), so that a wrong one is refused before any memory
    is taken. NaN and infinity are never values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_plain(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str) and (len(value) > MAX_TEXT or any(ord(character) < 32 for character in value)):
            raise ValueError(f"text must be one line of at most {MAX_TEXT} characters, without control characters")
        kinds = _kinds(cls.model_fields[info.field_name].annotation)
        if _holds_bool(value) and bool not in kinds and (int in kinds or float in kinds):  # pydantic takes true for 1
            raise ValueError("a number is needed, not true or false")
        return value

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
        VcvaeError: the file or one of its bases is missing, is not YAML, or is no mapping; a base is circular; or
            there are more than `MAX_BASES`.
    """
    return _inherit(Path(path), [])


def _inherit(path: Path, derived: list[Path]) -> dict[str, Any]:
    advice = "give the path of a YAML file"
    if derived:
        advice = f"{derived[-1]} names it as its base: give a path relative to that file"
    values = read_yaml_file(path, advice=advice)
    if path.resolve() in derived:
        raise VcvaeError(f"{path}: is its own base, directly or through other files; give another 'base'.")
    if len(derived) == MAX_BASES:
        raise VcvaeError(f"{path}: is the base of a base, {MAX_BASES} times; write the keys into fewer files.")
    if "base" not in values:
        return values
    base = values.pop("base")
    if not isinstance(base, str):
        raise VcvaeError(f"{path}: 'base' is {shorten(repr(base))}; name one YAML file.")
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
        level[last] = parse_yaml(value, context=f"--set {shorten(assignment)}")
    return values


def _explain(config: type[Config], error: ValidationError) -> str:
    first = error.errors()[0]
    *parents, key = first["loc"] or ("",)
    name = shorten(".".join(map(str, first["loc"])))
    if first["type"] == "missing":
        return f"the key '{name}' is missing."
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        return f"'{name}' is wrong: {message} (it is {shorten(repr(first['input']))})." if name else f"{message}."
    for parent in parents:
        if parent in config.model_fields:  # else it is the place in a list, whose annotation names the class
            config = next(filter(_is_config, _kinds(config.model_fields[parent].annotation)))
    valid = list(config.model_fields)
    nearest = difflib.get_close_matches(str(key), valid, n=1, cutoff=0.0)[0]
    return f"unknown key '{name}'; did you mean '{'.'.join([*map(str, parents), nearest])}'?"


def _holds_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_bool, value)))


def _is_config(kind: Any) -> bool:
    return not get_args(kind) and isinstance(kind, type) and issubclass(kind, Config)


def _kinds(annotation: Any) -> list[Any]:
    """The types in an annotation, also those within others: `int | None` → `int | None`, `int`, `None`."""
    return [annotation, *(kind for part in get_args(annotation) for kind in _kinds(part))]
