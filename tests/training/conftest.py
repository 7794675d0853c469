import pytest

from tests.training.runs import make_values


@pytest.fixture
def values(corpus, tmp_path):
    """The configuration of a short training, in `run`."""
    return make_values(corpus, tmp_path / "run")
