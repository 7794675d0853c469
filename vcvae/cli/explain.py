"""The configuration of a task: every key with its default and its description, as a YAML file has them."""

from __future__ import annotations

import inspect
from typing import Any

import yaml

from vcvae.config import Config
from vcvae.errors import VcvaeError

COMMENT_COLUMN = 40


def explain_task(task: str) -> str:
    """The keys of a task's configuration.

    Raises:
        VcvaeError: an unknown task.
    """
    from vcvae.training.tasks import TASKS

    if task not in TASKS:
        raise VcvaeError(f"--explain {task}: no such task; give one of: {', '.join(TASKS)}.")
    return explain_config(TASKS[task][0])


def explain_config(config: type[Config]) -> str:
    """The keys of a configuration, below a comment that says what it is."""
    return "\n".join([*_summary(config), *_explain(config)])


def _explain(config: type[Config], default: Config | None = None, *, depth: int = 0) -> list[str]:
    """Lines `key: default  # description`, those of a group of keys indented below its name.

    Args:
        default: the value of a group of keys, where that differs from the default of its own class.
        depth: groups that these keys are within.
    """
    lines = []
    indent = "  " * depth
    for name, field in config.model_fields.items():
        if default is not None:
            value = getattr(default, name)
        else:
            value = None if field.is_required() else field.get_default(call_default_factory=True)
        group = type(value) if isinstance(value, Config) else field.annotation
        if isinstance(group, type) and issubclass(group, Config):
            lines += [f"{indent}{name}:", *_summary(group, depth + 1), *_explain(group, value, depth=depth + 1)]
            continue
        required = default is None and field.is_required()
        text = f"{indent}{name}:" if required else f"{indent}{name}: {_as_yaml(value)}"
        lines.append(f"{text:<{COMMENT_COLUMN}}  # {'required; ' if required else ''}{field.description}")
    return lines


def _summary(config: type[Config], depth: int = 0) -> list[str]:
    """The first sentence of what a configuration is, as a comment."""
    first, *_ = inspect.cleandoc(config.__doc__ or "").partition("\n\n")
    return [f"{'  ' * depth}# {' '.join(first.split())}"] if first else []


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(_as_lists(value), default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()


def _as_lists(value: Any) -> Any:
    """The value with a list of its own for each tuple in it: YAML writes an alias where one object stands twice."""
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value
