import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import QUICK, read_or_refused
from vcvae.errors import VcvaeError
from vcvae.training import checkpoint


def state(step, error=0.0):
    return {
        "task": {"w": torch.tensor([float(step)])},
        "optimizers": {},
        "step": step,
        "examples": 8 * step,
        "voices": 1,
        "corpus": "",
        "config": "",
        "validation": {"step": step, "figures": {"error": error, "score": -error}},
    }


def steps(folder):
    return sorted(int(path.stem.removeprefix("step-")) for path in (folder / checkpoint.BEST).iterdir())


@pytest.mark.parametrize("by", ["lowest error", "highest score"])
def test_save_best_keeps_the_best_only(tmp_path, by):
    for step, error in enumerate([5.0, 3.0, 4.0, 1.0, 2.0, 9.0], 1):
        checkpoint.save_best(tmp_path, state(step, error), keep=2, by=by)
    assert steps(tmp_path) == [4, 5]
    best = checkpoint.load_best(tmp_path, by)
    assert (best["step"], best["task"]["w"].item()) == (4, 4.0)
    assert "optimizers" not in best


def test_save_best_replaces_the_same_step(tmp_path):
    for error in (3.0, 3.0, 2.0):
        checkpoint.save_best(tmp_path, state(7, error), keep=2, by="lowest error")
    assert steps(tmp_path) == [7]


def test_save_best_keeps_nothing_with_keep_0_or_a_figure_that_is_not_finite(tmp_path):
    checkpoint.save_best(tmp_path, state(1), keep=0, by="lowest error")
    checkpoint.save_best(tmp_path, state(2, torch.nan), keep=1, by="lowest error")
    assert not (tmp_path / checkpoint.BEST).exists()
    assert checkpoint.load_best(tmp_path, "lowest error") is None


def test_save_that_fails_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, state(1))

    def full(state, path):
        path.write(b"half")
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(VcvaeError, match=r"No space left on device.*make room there and run the same command"):
        checkpoint.save(tmp_path, state(2))
    assert checkpoint.load(tmp_path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.NAME]


def test_save_keeps_the_checkpoint_before(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, state(step))
    assert checkpoint.load(tmp_path)["step"] == 3
    (tmp_path / checkpoint.NAME).write_bytes(b"torn")
    assert checkpoint.load(tmp_path)["step"] == 2
    checkpoint.save(tmp_path, state(3))  # what is torn does not take the place of what is whole
    (tmp_path / checkpoint.NAME).unlink()
    assert checkpoint.load(tmp_path)["step"] == 2


def test_load_best_passes_over_a_torn_one(tmp_path, caplog):
    for step, error in ((1, 3.0), (2, 1.0), (3, 2.0)):
        checkpoint.save_best(tmp_path, state(step, error), keep=3, by="lowest error")
    (tmp_path / checkpoint.BEST / "step-00000002.pt").write_bytes(b"torn")
    assert checkpoint.load_best(tmp_path, "lowest error")["step"] == 3
    assert "step-00000002.pt: cannot be read as a checkpoint" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": None}, "'step' is wrong"),
        ({"step": -1}, "'step' is wrong"),
        ({"step": True}, "'step' is wrong"),
        ({"voices": 2**40}, "'voices' is wrong"),
        ({"examples": 1.5}, "'examples' is wrong"),
        ({"task": {"w": 1}}, r"'task\.w' is wrong"),
        ({"task": []}, "'task' is wrong"),
        ({"optimizers": {"model": {}}}, r"'optimizers\.model\.state' is wrong"),
        ({"validation": {"step": 1, "figures": {"error": "x"}}}, r"'validation\.figures\.error' is wrong"),
        ({"config": 5}, "'config' is wrong"),
        ({"version": 2}, "'version' is wrong: Input should be 1"),
    ],
)
def test_load_names_the_key_that_is_wrong(tmp_path, change, message):
    checkpoint.save(tmp_path, state(1) | change)
    with pytest.raises(VcvaeError, match=rf"checkpoint\.pt: not the checkpoint of a run \({message}"):
        checkpoint.load(tmp_path)


ANY = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
)


@QUICK
@given(st.data())
def test_load_returns_a_checkpoint_or_refuses_whatever_the_file(tmp_path, data):
    values = state(7) | data.draw(st.dictionaries(st.sampled_from(sorted(state(0))), ANY, max_size=1))
    buffer = io.BytesIO()
    torch.save(values, buffer)
    whole = buffer.getvalue()
    place = data.draw(st.integers(0, len(whole)))
    damaged = whole[:place] + data.draw(st.binary(max_size=4)) + whole[place:]
    path = tmp_path / checkpoint.NAME
    read = read_or_refused(lambda _: checkpoint.load(tmp_path), path, data.draw(st.sampled_from([whole, damaged])))
    assert read is None or isinstance(read["step"], int)


def test_load_refuses_a_mapping_that_stands_in_many_places(tmp_path):
    """A small file, whose mappings would be copied to 90,000 values for each optimizer."""
    moments = {str(number): torch.zeros(1) for number in range(300)}
    shared = {"state": dict.fromkeys(range(300), moments)}
    optimizers = {"a": shared, "b": shared}
    torch.save(state(1) | {"optimizers": optimizers, "scaler": None}, tmp_path / checkpoint.NAME)
    with pytest.raises(VcvaeError, match=r"'optimizers\.a\.state\.0' is wrong: Dictionary should have at most 8 items"):
        checkpoint.load(tmp_path)
