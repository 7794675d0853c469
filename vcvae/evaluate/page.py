"""A report for people: a Markdown table, and a page to look at and to listen to."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from vcvae.errors import replacing

if TYPE_CHECKING:
    from vcvae.evaluate.report import Report
    from vcvae.metrics.bootstrap import Interval

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .8rem; text-align: left; vertical-align: top; }
img { max-width: 100%; }
.parameter_groups { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; }
audio { width: 100%; }
"""


def write(report: Report, folder: Path) -> None:
    """report.md and report.html, beside the conversions, recordings and pictures that they show."""
    for name, text in (("report.md", markdown(report)), ("report.html", html(report, folder))):
        with replacing(folder / name) as file:
            file.write(text.encode())


def tables(report: Report) -> dict[str, Table]:
    """What was found, by title: the columns, and the rows. A table without rows is left out."""
    found = {
        f"{len(report.measured)} conversions": (
            ("measure", "conversions", "the sources as they are"),
            [
                (report.labels[key], *map(_among, (conversions, sources)))
                for key, (conversions, sources) in report.summary.items()
            ],
        ),
        "Speakers in the latents": (
            ("measure, on unseen utterances", "value", "by guessing"),
            [
                (x.label, f"{x.value:.3g}" if isinstance(x.value, float) else _among(x.value), f"{x.chance:.3g}")
                for x in report.speakers.values()
            ],
        ),
        "Missing": (("what", "why"), list(report.missing.items())),
        "Failed": (("case", "why"), list(report.failed.items())),
    }
    return {title: table for title, table in found.items() if table[1]}


def setup(report: Report) -> str:
    s = report.settings
    return (
        f"Model {s['model']}, vocoder {s['vocoder']}, {s['steps']} steps of learning each voice. "
        f"In brackets 95 % bootstrap intervals (seed {s['seed']}), and of how many."
    )


def markdown(report: Report) -> str:
    parts = ["# Conversions, measured", setup(report)]
    for title, (columns, rows) in tables(report).items():
        lines = [columns, ("---",) * len(columns), *rows]
        cells = (" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) for line in lines)
        parts += [f"## {title}", "\n".join(f"| {line} |" for line in cells)]
    return "\n\n".join(parts) + "\n"


def html(report: Report, folder: Path) -> str:
    """One page; its pictures are within it, and what it plays lies beside it."""
    parts = [f"<h1>Conversions, measured</h1><p>{escape(setup(report))}</p>"]
    for title, (columns, rows) in tables(report).items():
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    parts.append("<h2>The map of speaker latents</h2>" + _picture(folder / "pictures" / "speakers.png"))
    parts.append("<p>By the model's own encoder: it shows what the model was trained for, not how a voice sounds.</p>")
    parts += [_case(report, case, folder) for case in report.cases if case.id in report.measured]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Conversions, measured</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _case(report: Report, case, folder: Path) -> str:
    files = {
        "source": f"recordings/{case.id}.source.flac",
        "target": f"recordings/{case.id}.target.flac",
        "conversion": f"conversions/{case.id}.wav",
    }
    parameter_groups = "".join(
        f'<div>{name}<audio controls preload="none" src="{escape(file)}"></audio></div>' for name, file in files.items()
    )
    figures = "; ".join(
        f"{report.labels[key]}: {_number(value.conversion)}" for key, value in report.measured[case.id].items()
    )
    said = f"<p>“{escape(case.transcript)}”</p>" if case.transcript else ""
    picture = _picture(folder / "pictures" / f"{case.id}.png")
    return f'<h2>{escape(case.id)}</h2>{said}{picture}<div class="parameter_groups">{parameter_groups}</div><p>{escape(figures)}</p>'


def _among(found: Interval | None) -> str:
    return f"{found} of {found.count}" if found else "–"


def _number(value) -> str:
    if isinstance(value, tuple):
        return f"{value.part:g} of {value.whole:g}"
    return "–" if value != value else f"{value:.3g}"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{data}">'
