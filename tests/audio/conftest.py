"""What the tests of audio files begin with."""

import pytest

from tests.audio.files import cached_speech


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """No test may leave a temporary file."""
    yield
    assert not [path.name for path in tmp_path.rglob(".*")]


@pytest.fixture
def speech():
    return cached_speech("asiu ofe", f0=140, seconds=2).copy()
