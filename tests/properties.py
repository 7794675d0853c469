"""The property of every reader: whatever a file holds, it is read, or refused in one sentence that names it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from vcvae.errors import VcvaeError

# Few examples, the same in each run.
QUICK = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read_or_refused(read, path, data, *, named=None):
    """What `read` reads from a file of these bytes, or None where it refuses them. `named` is what it must name."""
    path.write_bytes(data)
    try:
        return read(path)
    except VcvaeError as error:
        sentence = str(error)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert len(sentence) < 1000
    return None
