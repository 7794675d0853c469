"""Which conversions are made to be measured: those of a table, or drawn from a prepared folder."""

from __future__ import annotations

import difflib
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcvae import audio
from vcvae.errors import VcvaeError, disk_errors

REQUIRED, OPTIONAL = ("id", "source", "targets"), ("transcript", "reference")
ENROLLED = 3  # utterances that show a target drawn from a prepared folder
logger = logging.getLogger("vcvae")
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Case:
    """One conversion: the words of `source` in the voice of `targets`.

    `transcript` is what the source says, `reference` a recording in which the target says the same; either may be
    unknown. `speakers` names the source's and the target's.
    """

    id: str
    source: Path
    targets: tuple[Path, ...]
    transcript: str = ""
    reference: Path | None = None
    speakers: tuple[str, str] = ("", "")


def read_cases(table: str | Path, *, root: str | Path | None = None) -> list[Case]:
    """The cases of a table with tabs, whose first line names its columns.

    These are `id`, `source`, `targets` (with `;` between them; folders count as the recordings in them), and, where
    wanted, `transcript` and `reference`; others are left alone. Paths are relative to `root`, or to the table's folder.

    Raises:
        VcvaeError: a table that cannot be read, a missing column, or a line that is wrong or names a file that is not
            there.
    """
    table = Path(table)
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VcvaeError(f"{table}: cannot be read as a table ({error}).") from None
    columns = [name.strip() for name in lines[0].split("\t")] if lines else []
    _check(table, columns)
    cases: dict[str, Case] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        where, fields = f"{table}: line {number}", [field.strip() for field in line.split("\t")]
        if len(fields) > len(columns):
            raise VcvaeError(
                f"{where} has {len(fields)} fields, the first line {len(columns)}; put one tab between two."
            )
        case = _parse(where, dict(zip(columns, fields, strict=False)), Path(root or table.parent))
        if case.id in cases:
            raise VcvaeError(f"{where} has the id '{case.id}' of an earlier line; give each case one of its own.")
        cases[case.id] = case
    if not cases:
        raise VcvaeError(f"{table}: holds no cases; each line below the first is one.")
    return list(cases.values())


def _check(table: Path, columns: list[str]) -> None:
    known = f"the columns are {', '.join(REQUIRED)}, and, where wanted, {' and '.join(OPTIONAL)}"
    others = [name for name in columns if name not in REQUIRED + OPTIONAL]
    for name in REQUIRED + OPTIONAL:
        if columns.count(name) > 1:
            raise VcvaeError(f"{table}: the column '{name}' is there twice; {known}.")
        meant = difflib.get_close_matches(name, others, n=1, cutoff=0.7)
        if name in REQUIRED and name not in columns:
            hint = f"; is '{meant[0]}' meant for it?" if meant else f"; {known}."
            raise VcvaeError(f"{table}: line 1 names no column '{name}'{hint}")
        if name not in columns and meant:
            logger.warning(f"{table}: the column '{meant[0]}' is not used; if '{name}' is meant, call it so.")


def _parse(where: str, values: dict[str, str], root: Path) -> Case:
    def found(column: str, name: str) -> Path:
        if not (root / name).exists():
            raise VcvaeError(f"{where}: the {column} {root / name} is not there; mend the table, or give --root.")
        return root / name

    def recordings(path: Path) -> list[Path]:
        with disk_errors(path, "read"):
            return audio.find(path) if path.is_dir() else [path]

    for name in REQUIRED:
        if not values.get(name, "").strip("; "):
            raise VcvaeError(f"{where} has no {name}.")
    if not _NAME.fullmatch(values["id"]):
        raise VcvaeError(f"{where}: the id '{values['id']}' shall name a file; use letters, digits, '_', '-' and '.'.")
    named = [name.strip() for name in values["targets"].split(";") if name.strip()]
    reference = values.get("reference")
    return Case(
        values["id"],
        found("source", values["source"]),
        tuple(file for name in named for file in recordings(found("target", name))),
        values.get("transcript", ""),
        found("reference", reference) if reference else None,
        (f"source of {values['id']}", f"target of {values['id']}"),
    )


def draw_cases(utterances: Sequence[tuple[Path, str]], count: int, *, seed: int = 0) -> list[Case]:
    """Up to `count` conversions between different speakers of a prepared folder, drawn by the seed; none twice.

    In each round every speaker is a source once and a target once. What shows a target is the same each time.

    Raises:
        VcvaeError: utterances of fewer than two speakers.
    """
    random = np.random.default_rng(seed)
    speakers: dict[str, list[Path]] = defaultdict(list)
    for path, speaker in utterances:
        speakers[speaker].append(path)
    if len(speakers) < 2:
        raise VcvaeError("--corpus: conversions need two speakers or more; this folder has fewer.")
    names = sorted(speakers)
    said = {name: [speakers[name][i] for i in random.permutation(len(speakers[name]))] for name in names}
    drawn: dict[tuple[Path, str], Case] = {}
    for turn in range(count):  # of two speakers or more, so that these are turns enough
        order = [names[i] for i in random.permutation(len(names))]
        for source, target in zip(order, order[1:] + order[:1], strict=True):
            spoken = said[source][turn % len(said[source])]
            if len(drawn) < count and (spoken, target) not in drawn:
                case = Case(f"{len(drawn):04d}", spoken, tuple(said[target][:ENROLLED]), speakers=(source, target))
                drawn[spoken, target] = case
    return list(drawn.values())
