import pytest
import torch

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
