"""The report as Markdown tables and as one HTML page with pictures and players."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from vcvae.errors import replacing
from vcvae.metrics.bootstrap import Interval, Ratio

if TYPE_CHECKING:
    from vcvae.evaluate.cases import Case
    from vcvae.evaluate.report import EvaluationReport

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .8rem; text-align: left; vertical-align: top; }
img { max-width: 100%; }
.players { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; }
audio { width: 100%; }
"""


def write(report: EvaluationReport, folder: Path) -> None:
    """Write report.md and report.html into the folder of the conversions, recordings and pictures that they show."""
    for name, text in (("report.md", markdown(report)), ("report.html", html(report, folder))):
        with replacing(folder / name) as file:
            file.write(text.encode())


def tables(report: EvaluationReport) -> dict[str, Table]:
    """The columns and rows of each table, by its title. A table without rows is left out."""
    all_tables = {
        f"{len(report.measured)} conversions": (
            ("measure", "conversions", "sources, unconverted"),
            [
                (report.labels[key], _interval(conversions), _interval(sources))
                for key, (conversions, sources) in report.summary.items()
            ],
        ),
        "Natural recordings by the verifiers": (
            ("verifier", "same speaker", "strangers", "equal error rate", "at threshold", "conversions accepted there"),
            [
                (
                    name,
                    _interval(verified.same_speaker),
                    _interval(verified.strangers),
                    f"{verified.equal_error_rate:.3g}",
                    f"{verified.threshold:.3g}",
                    _interval(verified.accepted),
                )
                for name, verified in report.verification.items()
            ],
        ),
        "Speakers in the latents": (
            ("metric, on unseen utterances", "value", "chance"),
            [
                (
                    metric.label,
                    f"{metric.value:.3g}" if isinstance(metric.value, float) else _interval(metric.value),
                    f"{metric.chance:.3g}",
                )
                for metric in report.speakers.values()
            ],
        ),
        "Cost": (("what", "value"), report.cost.rows() if report.cost else []),
        "Missing": (("measure", "why"), list(report.missing.items())),
        "Failed": (("case", "why"), list(report.failed.items())),
    }
    return {title: table for title, table in all_tables.items() if table[1]}


def describe_settings(report: EvaluationReport) -> str:
    """One paragraph: what was evaluated, and how to read the tables."""
    settings = report.settings
    if "converted" in settings:
        made = f"Conversions of another system, in {settings['converted']}."
    else:
        steps = f"{settings['steps']} steps of fine-tuning to each target"
        if "refine" in settings:
            steps += f", for any source, and {settings['refine']} to each source"
        made = f"Model {settings['model']}, vocoder {settings['vocoder']}, {steps}."
        if settings.get("mode") == "stream":
            made += " Sources were converted as they arrive, in a stream."
    return f"{made} Brackets are 95 % bootstrap intervals (seed {settings['seed']}), 'of' the number of values."


def markdown(report: EvaluationReport) -> str:
    """The tables in Markdown."""
    parts = ["# Evaluation of conversions", describe_settings(report)]
    for title, (columns, rows) in tables(report).items():
        parts += [f"## {title}", markdown_table(columns, rows)]
    return "\n\n".join(parts) + "\n"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, without a line break at its end."""
    lines = [columns, ("---",) * len(columns), *rows]
    cells = (" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in cells)


def html(report: EvaluationReport, folder: Path) -> str:
    """One page with embedded pictures; the recordings that it plays are files beside it."""
    parts = [f"<h1>Evaluation of conversions</h1><p>{escape(describe_settings(report))}</p>"]
    for title, (columns, rows) in tables(report).items():
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    parts.append("<h2>Map of speaker latents</h2>" + _picture(folder / "pictures" / "speakers.png"))
    parts.append("<p>These latents are the model's own: two close points need not be voices that sound alike.</p>")
    parts += [_case(report, case, folder) for case in report.cases if case.id in report.measured]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Evaluation of conversions</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _case(report: EvaluationReport, case: Case, folder: Path) -> str:
    files = {
        "source": f"recordings/{case.id}.source.flac",
        "target": f"recordings/{case.id}.target.flac",
        "conversion": f"conversions/{case.id}.wav",
    }
    players = "".join(
        f'<div>{name}<audio controls preload="none" src="{escape(file)}"></audio></div>' for name, file in files.items()
    )
    figures = "; ".join(
        f"{report.labels[key]}: {_number(value.conversion)}" for key, value in report.measured[case.id].items()
    )
    transcript = f"<p>“{escape(case.transcript)}”</p>" if case.transcript else ""
    picture = _picture(folder / "pictures" / f"{case.id}.png")
    heading = f"<h2>{escape(case.id)}</h2>{transcript}{picture}"
    return f'{heading}<div class="players">{players}</div><p>{escape(figures)}</p>'


def _interval(value: Interval | None) -> str:
    return f"{value} of {value.count}" if value else "–"


def _number(value: float | Ratio) -> str:
    if isinstance(value, Ratio):
        return f"{value.part:g} of {value.whole:g}"
    return "–" if math.isnan(value) else f"{value:.3g}"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{data}">'
