"""Running a recipe: its steps one after another, each a `vcvae` command or a script; finished steps are skipped.

Paths in a recipe are relative to the current folder, or begin with {recipe}, the recipe's own folder, or with
{repository}, two levels above it: so recipes that use recordings of the repository run from any folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, TypeAdapter

import vcvae
from vcvae.cli.options import refuse_ignored
from vcvae.config import Config, override, read_yaml
from vcvae.documents import MAX_JSON_BYTES, read_bytes
from vcvae.environment import following_this_process
from vcvae.errors import VcvaeError, check_folder, disk_errors, replacing

RECIPE_FILE = "recipe.yaml"
FINISHED = "steps.json"
PYTHON = "python"  # begins a step that is a script, not a command of vcvae
_FINISHED = TypeAdapter(dict[str, str])  # what it holds
CLONE = Path(vcvae.__file__).parents[1]  # the repository, where the package is installed editable


class Step(Config):
    """One command of a recipe."""

    name: str = Field(description="name of the step, for --from and --to")
    command: str = Field(description="what comes after `vcvae`; or `python`, a script and its arguments")
    makes: list[str] = Field(min_length=1, description="files and folders that exist once the step is finished")


@dataclass(frozen=True)
class ResolvedStep:
    """A step as it is run: the words of its command, and the paths that it makes."""

    name: str
    words: list[str]
    makes: list[str]


class Recipe(Config):
    """The steps from a corpus to a model, as recipe.yaml has them.

    In commands and outputs, {corpus}, {source} and {output} stand for the values of these keys, and the name of an
    option for its value; {recipe} and {repository}, also in `source`, for the folders of the recipe and of the
    repository.
    """

    about: str = Field(description="what the recipe makes, in one sentence")
    corpus: str = Field(description="name of the corpus for `vcvae prepare`")
    source: str = Field(description="folder of the corpus; --source replaces it")
    output: str = Field(description="folder of all outputs, and of the list of finished steps")
    options: dict[str, Annotated[str, BeforeValidator(str)]] = Field(
        {}, description="more names in braces, and what each stands for"
    )
    steps: list[Step] = Field(min_length=1, description="in order")

    def resolved(self, folder: Path, source: Path) -> list[ResolvedStep]:
        """The steps, with the names in braces replaced.

        Raises:
            VcvaeError: a step with an unknown name in braces, an unbalanced quotation mark, or no command.
        """
        names = {"corpus": self.corpus, "source": str(source), "output": self.output, **_folders(folder)}
        names = self.options | names
        resolved = []
        for step in self.steps:
            context = f"{folder / RECIPE_FILE}: the step '{step.name}'"
            try:
                written = shlex.split(step.command)
            except ValueError as error:
                raise VcvaeError(f"{context}: '{step.command}' is no command ({str(error).lower()}).") from None
            words = [_fill_in(word, names, context) for word in written]
            if not words or words[0] not in (PYTHON, *_commands()):
                raise VcvaeError(
                    f"{context}: '{step.command}' is no command; begin it with {', '.join(_commands())} or {PYTHON}."
                )
            outputs = [_fill_in(made, names, context) for made in step.makes]
            if not all(outputs):
                raise VcvaeError(f"{context}: 'makes' holds an empty name; name what exists once it is finished.")
            resolved.append(ResolvedStep(step.name, words, outputs))
        return resolved

    @classmethod
    def read(cls, file: Path, assignments: Sequence[str] = ()) -> Recipe:
        """The recipe that a YAML file holds, with assignments such as `corpus=folder` applied.

        Raises:
            VcvaeError: it cannot be read, or is no recipe; or an assignment is none.
        """
        values = read_yaml(file)
        recipe = cls.parse(override(values, list(assignments)), context=str(file))
        unknown = recipe.options.keys() - cls.parse(values, context=str(file)).options.keys()
        if unknown:
            raise VcvaeError(
                f"--set options.{min(unknown)}: {file} has no such option; it has "
                f"{', '.join(values.get('options') or ['none'])}."
            )
        names = [step.name for step in recipe.steps]
        if len(set(names)) < len(names):
            raise VcvaeError(f"{file}: two steps have the same name; each needs its own.")
        return recipe


def run(
    recipe: Path,
    say: Callable[[str], None],
    *,
    first: str | None = None,
    last: str | None = None,
    source: Path | None = None,
    launch: Path | None = None,
    assignments: Sequence[str] = (),
) -> None:
    """Run the steps of a recipe, `first` to `last`, except the finished ones.

    A step is finished if it has ended without an error, with the same command and configurations, and its outputs
    exist. Once a step is run, all steps after it are run again. A `first` is always run.

    Args:
        recipe: the recipe's folder, or its file; a name like recipes/mini is also found in the clone of the repository
            that the package is installed from.
        source: folder of the corpus, where it is not the one that the recipe names.
        launch: an accelerate configuration, with which the training steps are launched.
        assignments: `key=value`, each of which replaces a key of the recipe, such as `options.machine=gpu`.

    Raises:
        VcvaeError: no such recipe or step, or a step that failed: the same call resumes there.
    """
    file = find_recipe(recipe)
    folder = file.parent
    values = Recipe.read(file, assignments)
    if not any("{source}" in text for step in values.steps for text in (step.command, *step.makes)):
        refuse_ignored({"--source": source}, f"for {recipe}: no step of it takes {{source}}")
    source = source or _source_of(values, folder, recipe)
    all_steps = values.resolved(folder, source)
    if not any(step.words[0] == "train" for step in all_steps):
        refuse_ignored({"--launch": launch}, f"for {recipe}: it has no step of training")
    steps = _between(all_steps, first, last, recipe)
    output = Path(values.output)
    check_folder(values.output)
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    say(f"{recipe}: {values.about}")
    must_run = first is not None
    for number, step in enumerate(steps, 1):
        title = f"[{number}/{len(steps)}] {step.name}"
        finished = _read_finished(output)
        is_finished = finished.get(step.name) == _fingerprint(step.words) and all(map(_is_complete, step.makes))
        if is_finished and not must_run:
            say(f"{title}: finished before")
            continue
        must_run = True
        say(f"{title}: {shlex.join(step.words if step.words[0] == PYTHON else ['vcvae', *step.words])}")
        if is_finished and step.words[0] == "train":
            say(f"{step.makes[0]}: is a finished run and stays as it is; remove it to train again")
        _write_finished(output, {name: mark for name, mark in finished.items() if name != step.name})
        code = _call(step.words, launch)
        missing = [path for path in step.makes if not _is_complete(path)]
        if code or missing:
            reason = f"exit code {code}" if code else f"{missing[0]} is missing or incomplete"
            raise VcvaeError(
                f"{recipe}: the step '{step.name}' failed ({reason}); correct the cause and run the same command to "
                "resume there."
            )
        _write_finished(output, _read_finished(output) | {step.name: _fingerprint(step.words)})
    say(f"{recipe}: finished")


def find_recipe(recipe: Path) -> Path:
    """The file of a recipe: relative to the current folder, or to the clone that the package is installed from.

    Raises:
        VcvaeError: it is in neither.
    """
    for place in (recipe, CLONE / recipe):
        if place.exists():
            return place / RECIPE_FILE if place.is_dir() else place
    if recipe.parts[:1] == ("recipes",) and not (CLONE / "recipes").is_dir():
        raise VcvaeError(
            f"{recipe}: not in the current folder, and recipes are not part of the installed package; clone the "
            "repository, and run the recipe there."
        )
    raise VcvaeError(f"{recipe}: no such recipe; give the folder of one, such as recipes/mini.")


def _fill_in(text: str, names: dict[str, str], context: str) -> str:
    """The text with each {name} replaced by its value; braces have no other use.

    Raises:
        VcvaeError: an unknown name, or a brace that stands alone.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in names:
            valid = ", ".join(f"{{{name}}}" for name in names)
            raise VcvaeError(f"{context}: '{match[0]}' stands for nothing; use {valid}.")
        return names[match[1]]

    return re.sub(r"\{([^{}]*)\}|[{}]", value, text)


@functools.cache
def _commands() -> list[str]:
    from vcvae.cli import COMMANDS  # it imports this module

    return [command.__name__ for command in COMMANDS]


def _folders(folder: Path) -> dict[str, str]:
    return {"recipe": str(folder), "repository": os.path.normpath(folder / ".." / "..")}


def _source_of(values: Recipe, folder: Path, recipe: Path) -> Path:
    """The folder of the corpus that the recipe names.

    Raises:
        VcvaeError: it should lie in the repository, and does not.
    """
    source = Path(_fill_in(values.source, _folders(folder), f"{folder / RECIPE_FILE}: 'source'"))
    if "{repository}" in values.source and not source.exists():
        raise VcvaeError(
            f"{recipe}: its recordings, {source}, are missing; they are part of the repository: clone it, and run the "
            "recipe there, or give other recordings with --source."
        )
    return source


def _between(steps: list[ResolvedStep], first: str | None, last: str | None, recipe: Path) -> list[ResolvedStep]:
    names = [step.name for step in steps]
    for option, name in (("--from", first), ("--to", last)):
        if name is not None and name not in names:
            raise VcvaeError(f"{option} {name}: {recipe} has no such step; it has {', '.join(names)}.")
    start = names.index(first) if first else 0
    end = names.index(last) + 1 if last else len(names)
    if end <= start:
        raise VcvaeError(f"--from {first}: comes after --to {last}; it must come before, or be the same.")
    return steps[start:end]


def _call(words: list[str], launch: Path | None) -> int:
    command = words[1:] if words[0] == PYTHON else ["-m", "vcvae", *words]
    if launch and words[0] == "train":
        command = ["-m", "accelerate.commands.launch", "--config_file", str(launch), *command]
    process = subprocess.Popen([sys.executable, *command], preexec_fn=following_this_process())

    def terminate(*_signal) -> None:  # Ctrl-C reaches both processes, SIGTERM only this one
        process.terminate()
        raise KeyboardInterrupt

    previous_handler = signal.signal(signal.SIGTERM, terminate)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # it was interrupted, too, and saves its state
        raise
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def _is_complete(made: str) -> bool:
    """Whether the path exists; for the folder of a training run, whether the last step was validated."""
    path = Path(made)
    config = path / "config.yaml"
    if not config.is_file():
        return path.exists()
    from vcvae.training.run_folder import read_figures

    steps = read_yaml(config).get("steps")
    if not isinstance(steps, int):
        raise VcvaeError(f"{config}: not the configuration of a training run; remove {path} to train again.")
    return any(line["group"] == "dev" and line["step"] >= steps for line in read_figures(path))


def _fingerprint(words: list[str]) -> str:
    """Of a command and of the configurations that it names."""
    contents = [read_yaml(word) if word.endswith(".yaml") else word for word in words]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]


def _read_finished(output: Path) -> dict[str, str]:
    """Step → its fingerprint, of the finished steps.

    Raises:
        VcvaeError: the file that lists them is not as it was written.
    """
    path = output / FINISHED
    if not path.exists():
        return {}
    data = read_bytes(path, MAX_JSON_BYTES, advice="remove it, and all steps are run again")
    try:
        return _FINISHED.validate_json(data, strict=True)
    except ValueError:
        raise VcvaeError(f"{path}: not the list of finished steps; remove it, and all steps are run again.") from None


def _write_finished(output: Path, finished: dict[str, str]) -> None:
    with replacing(output / FINISHED) as file:
        file.write((json.dumps(finished, indent=2) + "\n").encode())
