"""The lines of a manifest: cuts of lhotse, of which training needs a few values, checked where they are read."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from vcvae.errors import VcvaeError, check_file, reason

MANIFEST = "cuts.jsonl.gz"  # the name of a manifest in its folder
MAX_CUT_BYTES = 2**16  # of a line
MAX_SAMPLES = 2**31 - 1  # of an utterance: 27 h at 22.05 kHz
MAX_TEXT = 4096  # characters of a name, or of a transcript


class Cut(NamedTuple):
    """What is needed of an utterance.

    `bandwidth` is in Hz, `source` the path of its audio, "" within a shard, `transcript` its words, "" if unknown.
    """

    id: str
    speaker: str
    samples: int
    sample_rate: int
    bandwidth: float
    parallel_group: str | None
    source: str
    transcript: str


def read_manifest(path: Path) -> Iterator[tuple[bytes, Cut]]:
    """The lines of a compressed manifest, each as it is and as a cut.

    Raises:
        VcvaeError: it cannot be read, or holds something else.
    """
    check_file(path, advice="prepare again")
    try:
        with gzip.open(path) as file:
            for number, line in enumerate(read_lines(file), 1):
                try:
                    yield line, parse_cut(line)
                except ValueError as error:
                    raise VcvaeError(
                        f"{path}: not a manifest of 'vcvae prepare' (line {number}: {reason(error)}); prepare again."
                    ) from None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise VcvaeError(f"{path}: not a manifest of 'vcvae prepare' ({reason(error)}); prepare again.") from None


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file.

    Raises:
        ValueError: one is longer than a cut.
    """
    while line := file.readline(MAX_CUT_BYTES):
        if len(line) == MAX_CUT_BYTES:
            raise ValueError(f"a line of more than {MAX_CUT_BYTES} bytes")
        yield line


def parse_cut(line: bytes) -> Cut:
    """The cut in a line.

    Raises:
        ValueError: there is none, or a value in it cannot be.
    """
    try:
        values = json.loads(line)
        recording, supervision, custom = values["recording"], values["supervisions"][0], values["custom"]
        sources = recording.get("sources") or [{}]
        cut = Cut(
            _text(values["id"]),
            _text(supervision["speaker"]),
            _count(recording["num_samples"], MAX_SAMPLES),
            _count(recording["sampling_rate"], 768_000),
            float(custom["bandwidth"]),
            custom.get("parallel_group"),
            _text(sources[0].get("source", "") or ""),
            _text(supervision.get("text", "") or ""),
        )
    except KeyError as error:
        raise ValueError(f"{error} is missing") from None
    except (TypeError, AttributeError, IndexError, OverflowError, RecursionError):
        raise ValueError("a value is of another type") from None
    if not math.isfinite(cut.bandwidth) or cut.bandwidth < 0:
        raise ValueError(f"the bandwidth is {cut.bandwidth}")
    if cut.parallel_group is not None:
        _text(cut.parallel_group)
    return cut


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        raise ValueError("a name is no text, or too long")
    value.encode()  # a ValueError for half of a surrogate pair
    return value


def _count(value: Any, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        raise ValueError(f"a number of samples is not from 1 to {most:,}")
    return value
