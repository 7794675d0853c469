"""The reports of several systems in one table, with the natural recordings beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcvae.documents import read_json
from vcvae.errors import VcvaeError
from vcvae.evaluate.cost import LABELS
from vcvae.evaluate.page import markdown_table

NATURAL = "natural"  # the column of recordings as they are


def compare(folders: Sequence[Path]) -> str:
    """A Markdown table of the evaluations in `folders`, a column for each, after one of natural recordings.

    That column has the figures of the unconverted sources and, for the verifiers, cosines of the target speakers'
    recordings with each other. Each figure is a mean with its 95 % interval.

    Raises:
        VcvaeError: a folder that holds no report.
    """
    rows: dict[str, dict[str, str]] = {}
    for folder in folders:
        report = read_json(folder / "report.json", advice="give the output folder of 'vcvae evaluate'")
        try:
            for label, column, value in _figures(report, folder.resolve().name):
                rows.setdefault(str(label), {}).setdefault(column, value)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            raise VcvaeError(
                f"{folder / 'report.json'}: not a report of this version; run 'vcvae evaluate' again."
            ) from None
    columns = [NATURAL, *(folder.resolve().name for folder in folders)]
    lines = [(label, *(values.get(column, "–") for column in columns)) for label, values in rows.items()]
    return markdown_table(("", *columns), lines)


def _figures(report: dict[str, Any], system: str) -> list[tuple[str, str, str]]:
    """Label, column and value of each figure of a report."""
    figures = []
    for entry in report["summary"].values():
        figures += [(entry["label"], NATURAL, _interval(entry["sources"]))] if entry["sources"] else []
        figures.append((entry["label"], system, _interval(entry["conversions"])))
    for name, verified in report["verification"].items():
        figures.append((f"same speaker, {name}", NATURAL, _interval(verified["same_speaker"])))
        figures.append((f"strangers, {name}", NATURAL, _interval(verified["strangers"])))
        figures.append((f"accepted as the target, {name}", system, _interval(verified["accepted"])))
    for entry in report["speakers"].values():
        value = entry["value"]
        figures.append((entry["label"], system, _interval(value) if isinstance(value, dict) else f"{value:.3g}"))
    if report["cost"]:
        figures += [(LABELS[name], system, f"{value:.4g}") for name, value in report["cost"].items()]
    return figures


def _interval(values: dict[str, float]) -> str:
    return f"{values['mean']:.3g} [{values['low']:.3g}, {values['high']:.3g}]"
