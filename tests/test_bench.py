"""Benchmarks are run by hand; here each one starts, so that a change of the package cannot break it unnoticed."""

import importlib.util
import os
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench"


@pytest.mark.parametrize("path", sorted(BENCH.glob("*.py")), ids=lambda path: path.stem)
def test_bench_starts(path, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", dict(os.environ))  # some set the number of threads
    monkeypatch.setattr("sys.argv", [path.name, "--help"])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(SystemExit, match="0"):
        module.main()
    assert path.name in capsys.readouterr().out
