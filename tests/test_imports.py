"""Imports run one way, as pyproject.toml lists the layers."""

import logging
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def test_no_module_imports_from_a_layer_above_or_beside_it(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"))
    logging.getLogger("vcvae").disabled = False  # it disables all loggers
    assert code == 0, capsys.readouterr().out
