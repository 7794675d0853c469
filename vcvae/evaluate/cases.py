"""The conversions to measure: read from a table, or drawn from a prepared folder."""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcvae import audio
from vcvae.convert.encoder import MAX_MINUTES as TARGET_MINUTES
from vcvae.errors import VcvaeError
from vcvae.tables import read_lines

REQUIRED_COLUMNS = ("id", "source", "targets")
OPTIONAL_COLUMNS = ("transcript", "reference")
MAX_MINUTES = 5.0  # of a recording that is measured: the networks that measure it hold all of it at once
UTTERANCES_PER_TARGET = 3  # of a target speaker drawn from a prepared folder
_log = logging.getLogger("vcvae")
_ID_PATTERN = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Case:
    """One conversion: the words of `source` in the voice of `targets`.

    `transcript` is the text of the source, `reference` a recording of the same words by the target speaker; both are
    optional. `speakers` names the source speaker and the target speaker.
    """

    id: str
    source: Path
    targets: tuple[Path, ...]
    transcript: str = ""
    reference: Path | None = None
    speakers: tuple[str, str] = ("", "")


def check_length(recording: Path) -> None:
    """Raise a VcvaeError if a recording cannot be opened, or is longer than `MAX_MINUTES`."""
    minutes = audio.duration(recording) / 60
    if MAX_MINUTES < minutes < math.inf:
        raise VcvaeError(
            f"{recording}: {minutes:.0f} minutes long; utterances are measured, of at most {MAX_MINUTES:.0f}; cut it."
        )


def read_start(recording: Path, sample_rate: int, *, trim: bool = False, min_samples: int = 1) -> np.ndarray:
    """The samples (samples,) of a recording, or of its first `MAX_MINUTES`, by `audio.read`."""
    seconds = 60 * MAX_MINUTES
    return audio.read(recording, sample_rate, trim=trim, min_samples=min_samples, max_seconds=seconds)


def read_cases(table: str | Path, *, root: str | Path | None = None) -> list[Case]:
    """The cases of a tab-separated table whose first line names its columns.

    Required are `id`, `source` and `targets` (`;` between them; a folder stands for the first half hour of the
    recordings in it), optional `transcript` and `reference`; other columns are ignored. Paths are relative to `root`,
    by default the table's folder.

    Raises:
        VcvaeError: a table that cannot be read, a missing column, or a line that is wrong or names a missing file.
    """
    table = Path(table)
    lines = read_lines(table)
    columns = [name.strip() for name in next(lines, (1, ""))[1].split("\t")]
    _check_columns(table, columns)
    cases: dict[str, Case] = {}
    for number, line in lines:
        place = f"{table}: line {number}"
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) > len(columns):
            raise VcvaeError(
                f"{place} has {len(fields)} fields, the first line {len(columns)}; put one tab between two."
            )
        case = _parse_case(place, dict(zip(columns, fields, strict=False)), Path(root or table.parent))
        if case.id in cases:
            raise VcvaeError(f"{place} has the id '{case.id}' of an earlier line; give each case its own.")
        cases[case.id] = case
    if not cases:
        raise VcvaeError(f"{table}: holds no cases; each line below the first is one.")
    return list(cases.values())


def _check_columns(table: Path, columns: list[str]) -> None:
    advice = f"the columns are {', '.join(REQUIRED_COLUMNS)}, and optionally {' and '.join(OPTIONAL_COLUMNS)}"
    unused = [name for name in columns if name not in REQUIRED_COLUMNS + OPTIONAL_COLUMNS]
    for name in REQUIRED_COLUMNS + OPTIONAL_COLUMNS:
        if columns.count(name) > 1:
            raise VcvaeError(f"{table}: the column '{name}' appears twice; {advice}.")
        if name in columns:
            continue
        similar = difflib.get_close_matches(name, unused, n=1, cutoff=0.7)
        if name in REQUIRED_COLUMNS:
            hint = f"; rename '{similar[0]}' to it." if similar else f"; {advice}."
            raise VcvaeError(f"{table}: line 1 names no column '{name}'{hint}")
        if similar:
            _log.warning(f"{table}: the column '{similar[0]}' is ignored; rename it to '{name}' to use it.")


def _parse_case(place: str, values: dict[str, str], root: Path) -> Case:
    def existing(column: str, name: str) -> Path:
        if not (root / name).exists():
            raise VcvaeError(f"{place}: the {column} {root / name} does not exist; correct the table, or give --root.")
        return root / name

    def recordings(path: Path) -> list[Path]:
        if not path.is_dir():
            return [path]

        def leave_out(file: Path, why: str) -> None:
            _log.warning(f"{place}: {file} is left out of the target: {why}")

        readable, seconds = [], 0.0
        try:
            for file in audio.find_readable(path, leave_out):
                readable.append(file)
                seconds += audio.duration(file)
                if seconds > 60 * TARGET_MINUTES:  # the others are not read
                    break
        except VcvaeError:  # there are none: the case fails, and says why
            return audio.find(path)
        return readable

    for name in REQUIRED_COLUMNS:
        if not values.get(name, "").strip("; "):
            raise VcvaeError(f"{place} has no {name}.")
    if not _ID_PATTERN.fullmatch(values["id"]):
        raise VcvaeError(f"{place}: the id '{values['id']}' cannot name a file; use letters, digits, '_', '-' and '.'.")
    targets = [name.strip() for name in values["targets"].split(";") if name.strip()]
    reference = values.get("reference")
    return Case(
        values["id"],
        existing("source", values["source"]),
        tuple(file for name in targets for file in recordings(existing("target", name))),
        values.get("transcript", ""),
        existing("reference", reference) if reference else None,
        (f"source of {values['id']}", f"target of {values['id']}"),
    )


def group_by_speaker(utterances: Sequence[tuple[Path, str]]) -> dict[str, list[Path]]:
    """The recordings of each speaker, in order, of pairs of a recording and its speaker."""
    files_of: dict[str, list[Path]] = defaultdict(list)
    for path, speaker in utterances:
        files_of[speaker].append(path)
    return files_of


def draw_cases(
    utterances: Sequence[tuple[Path, str]],
    count: int,
    *,
    transcripts: Mapping[Path, str] | None = None,
    seed: int = 0,
) -> list[Case]:
    """Up to `count` different conversions between different speakers of a prepared folder, drawn by the seed.

    In each round every speaker is a source once and a target once. A target speaker has the same utterances each time.

    Args:
        utterances: pairs of a recording and its speaker.
        count: conversions.
        transcripts: the words of recordings, where they are known.
        seed: of the random choice.

    Raises:
        VcvaeError: utterances of fewer than two speakers.
    """
    random = np.random.default_rng(seed)
    files_of, transcripts = group_by_speaker(utterances), transcripts or {}
    if len(files_of) < 2:
        raise VcvaeError("--corpus: conversions need two speakers or more; this folder has fewer.")
    speakers = sorted(files_of)
    shuffled = {name: [files_of[name][i] for i in random.permutation(len(files_of[name]))] for name in speakers}
    cases: dict[tuple[Path, str], Case] = {}
    for turn in range(count):  # each round adds a case or more until the different pairs run out
        order = [speakers[i] for i in random.permutation(len(speakers))]
        for source_speaker, target_speaker in zip(order, order[1:] + order[:1], strict=True):
            source = shuffled[source_speaker][turn % len(shuffled[source_speaker])]
            if len(cases) < count and (source, target_speaker) not in cases:
                targets = tuple(shuffled[target_speaker][:UTTERANCES_PER_TARGET])
                names, words = (source_speaker, target_speaker), transcripts.get(source, "")
                case = Case(f"{len(cases):04d}", source, targets, words, speakers=names)
                cases[source, target_speaker] = case
    return list(cases.values())
