"""Prepared data, in whichever form it is there."""

from __future__ import annotations

from pathlib import Path

from vcvae.data.examples import Examples
from vcvae.errors import VcvaeError


def load(place: str, *, batch: int, parallel: str | None = None, **options) -> Examples:
    """A folder with a manifest, or one of shards (`vcvae prepare --shar`), also by its URL → its examples.

    `batch` examples one after another come from one shard. `parallel` is as in `Segments`; shards, which come one at a
    time, cannot be searched for it. `options` are those of `Examples`.

    Raises:
        VcvaeError: `place` is neither of these, or for another rate, or no speaker in it has enough speech, or shards
            are asked for parallel speech.
    """
    from vcvae.data.segments import Segments
    from vcvae.data.shar import SHARDS
    from vcvae.data.stream import Stream

    if "://" in place or (Path(place) / SHARDS).is_dir():
        if parallel:
            raise VcvaeError(f"data.parallel: {place} is shards; give a folder with a manifest, or leave it out.")
        return Stream(place, batch=batch, **options)
    return Segments(place, parallel=parallel, **options)
