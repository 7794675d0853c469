"""Training examples from prepared data in either form: a folder with a manifest, or shards."""

from __future__ import annotations

from pathlib import Path

from vcvae.data.examples import Examples


def load(place: str, *, batch: int, parallel: bool = False, **options) -> Examples:
    """The examples of a prepared folder, or of shards (`vcvae prepare --shar`) in a folder or at a URL.

    Args:
        batch: number of consecutive examples that come from one shard.
        parallel: whether examples include parallel speech, as in `Segments`. Shards are read one at a time and give
            none.
        options: those of `Examples`.

    Raises:
        VcvaeError: `place` is not prepared, or for another sample rate, or no speaker in it has enough speech.
    """
    from vcvae.data.segments import Segments
    from vcvae.data.shar import SHARDS
    from vcvae.data.stream import ShardExamples

    if "://" in place or (Path(place) / SHARDS).is_dir():
        return ShardExamples(place, batch=batch, **options)
    return Segments(place, parallel=parallel, **options)
