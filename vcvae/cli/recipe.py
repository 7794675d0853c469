"""Running a recipe: its steps one after another, each a command that could be typed, those that are done left out."""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import Field

from vcvae.config import Config, read_yaml
from vcvae.errors import VcvaeError, disk_errors, replacing

FILE, DONE = "recipe.yaml", "steps.json"


class Step(Config):
    """One command of a recipe."""

    name: str = Field(description="by which --from and --to call it")
    command: str = Field(description="what comes after `vcvae`")
    makes: list[str] = Field(min_length=1, description="files and folders that are there once it is done")


class Recipe(Config):
    """The steps from a corpus to a model, as recipe.yaml has them.

    In commands and what they make, {corpus}, {source} and {output} are these, and {recipe} is the recipe's folder.
    """

    about: str = Field(description="what it makes, in a sentence")
    corpus: str = Field(description="as `vcvae prepare` calls it")
    source: str = Field(description="where the corpus lies; --source says otherwise")
    output: str = Field(description="folder of all that it makes, with a note of the steps that are done")
    steps: list[Step] = Field(min_length=1, description="in order")

    def resolved(self, folder: Path, source: Path | None = None) -> list[tuple[str, list[str], list[str]]]:
        """For each step its name, the words of its command, and what it makes."""
        meant = {
            "corpus": self.corpus,
            "source": source or self.source,
            "output": self.output,
            "recipe": folder,
        }
        return [
            (
                step.name,
                [word.format(**meant) for word in shlex.split(step.command)],
                [made.format(**meant) for made in step.makes],
            )
            for step in self.steps
        ]

    @classmethod
    def read(cls, place: Path) -> Recipe:
        """That of a folder, or a file.

        Raises:
            VcvaeError: there is none, or it is not one.
        """
        if not place.exists():
            raise VcvaeError(f"{place}: is not there; give the folder of a recipe, such as recipes/mini.")
        file = place / FILE if place.is_dir() else place
        recipe = cls.parse(read_yaml(file), where=str(file))
        names = [step.name for step in recipe.steps]
        if len(set(names)) < len(names):
            raise VcvaeError(f"{file}: two steps have one name; each needs its own.")
        return recipe


def run(
    place: Path,
    say: Callable[[str], None],
    *,
    first: str | None = None,
    last: str | None = None,
    source: Path | None = None,
    launch: Path | None = None,
) -> None:
    """Do the steps of the recipe in a folder, `first` to `last`, but for those that are done.

    A step is done where a run of it has ended well, with the same command and configurations, and what it makes is
    there. What comes after one that was done again is done again. A `first` is always done.

    `launch` is an accelerate configuration, by which the training steps are then run.

    Raises:
        VcvaeError: no such recipe or step, or a step that failed: the same call goes on there.
    """
    recipe = Recipe.read(place)
    folder = place if place.is_dir() else place.parent
    steps = _between(recipe.resolved(folder, source), first, last, place)
    output = Path(recipe.output)
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    say(f"{place}: {recipe.about}")
    again = first is not None
    for number, (name, words, makes) in enumerate(steps, 1):
        title, done = f"[{number}/{len(steps)}] {name}", _done(output)
        is_done = done.get(name) == _fingerprint(words) and all(map(_complete, makes))
        if is_done and not again:
            say(f"{title}: done before")
            continue
        again = True
        say(f"{title}: vcvae {shlex.join(words)}")
        if is_done and words[0] == "train":
            say(f"{makes[0]}: is a finished run, and stays as it is; remove it, to train anew on what comes before")
        _note(output, {other: mark for other, mark in done.items() if other != name})
        code = _call(words, launch)
        missing = [made for made in makes if not _complete(made)]
        if code or missing:
            reason = f"exit code {code}" if code else f"{missing[0]} is not there, or not whole"
            raise VcvaeError(
                f"{place}: the step '{name}' did not end well ({reason}); mend it and run the same command, to go on "
                "from there."
            )
        _note(output, _done(output) | {name: _fingerprint(words)})
    say(f"{place}: done")


def _between(steps: list[tuple], first: str | None, last: str | None, place: Path) -> list[tuple]:
    names = [name for name, *_ in steps]
    for option, name in (("--from", first), ("--to", last)):
        if name is not None and name not in names:
            raise VcvaeError(f"{option} {name}: {place} has no such step; it has {', '.join(names)}.")
    start = names.index(first) if first else 0
    end = names.index(last) + 1 if last else len(names)
    if end <= start:
        raise VcvaeError(f"--from {first}: comes after --to {last}; it should come before, or be the same.")
    return steps[start:end]


def _call(words: list[str], launch: Path | None) -> int:
    python = [sys.executable]
    if launch and words[0] == "train":
        python += ["-m", "accelerate.commands.launch", "--config_file", str(launch)]
    process = subprocess.Popen([*python, "-m", "vcvae", *words])

    def pass_on(*_signal) -> None:  # Ctrl-C reaches both, SIGTERM only this one
        process.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # it was interrupted, too, and saves the step at hand
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _complete(made: str) -> bool:
    """Whether it is there; of the folder of a training run, whether the last step was reached."""
    path = Path(made)
    config = path / "config.yaml"
    if not config.is_file():
        return path.exists()
    from vcvae.training.log import read

    steps = yaml.safe_load(config.read_text(encoding="utf-8"))["steps"]
    return any(line["group"] == "dev" and line["step"] >= steps for line in read(path))


def _fingerprint(words: list[str]) -> str:
    """Of a command and of the configurations that it names."""
    told = [read_yaml(word) if word.endswith(".yaml") else word for word in words]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _done(output: Path) -> dict[str, str]:
    """Step → what it was, of those that have ended well."""
    try:
        return json.loads((output / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _note(output: Path, done: dict[str, str]) -> None:
    with replacing(output / DONE) as file:
        file.write((json.dumps(done, indent=2) + "\n").encode())
