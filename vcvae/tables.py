"""Tables as text: one row a line, tabs between the columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vcvae.errors import VcvaeError, check_file

MAX_LINE = 2**16  # characters


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of a table that are not blank, without their ends, and their numbers; a byte order mark is left out.

    Raises:
        VcvaeError: no file, one that is not UTF-8 text, or a line that is longer than `MAX_LINE`.
    """
    check_file(path, advice="give a table")
    try:
        with open(path, encoding="utf-8-sig") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                if len(line) == MAX_LINE:
                    raise VcvaeError(f"{path}: line {number} is longer than {MAX_LINE:,} characters; give a table.")
                if line.strip():
                    yield number, line.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise VcvaeError(f"{path}: cannot be read as a table ({error}); save it as text in UTF-8.") from None
