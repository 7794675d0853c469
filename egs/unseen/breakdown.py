"""The figures of the conversions of cases.tsv by sex and by number of target utterances: a table from report.json.

python egs/unseen/breakdown.py exp/unseen/report.json
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

THRESHOLDS = {"campplus": 0.653, "resemblyzer": 0.758}  # cosines of equal error on real pairs of 15 of these speakers
MEASURES = ("campplus_target", "campplus_source", "resemblyzer_target", "word_errors", "distillmos")
COLUMNS = (
    *("cases", "similarity to target", "to source", "WER", "of the sources"),
    *("DistillMOS", "accepted by CAM++", "by Resemblyzer"),
)
KINDS = {"FF": "woman to woman", "FM": "woman to man", "MF": "man to woman", "MM": "man to man"}


def main(report: Path) -> None:
    cases = {case["id"]: case["measures"] for case in json.loads(report.read_text())["cases"]}
    with open(Path(__file__).with_name("cases.tsv")) as file:
        table = [row for row in csv.DictReader(file, delimiter="\t") if row["id"] in cases]
    missing = [f"{name} of {row['id']}" for row in table for name in MEASURES if name not in cases[row["id"]]]
    if missing:
        sys.exit(f"{report}: lacks {missing[0]}; make it by the command in {Path(__file__).with_name('README.md')}.")
    groups = {"all": table, "one target utterance": [], "five": []} | {name: [] for name in KINDS.values()}
    for row in table:
        groups["five" if ";" in row["targets"] else "one target utterance"].append(row)
        groups[KINDS[row["sexes"]]].append(row)
    print(f"| | {' | '.join(COLUMNS)} |\n|{'---|' * (1 + len(COLUMNS))}")
    for name, rows in ((name, rows) for name, rows in groups.items() if rows):
        values = [{key: value["conversion"] for key, value in cases[row["id"]].items()} for row in rows]
        mean = {key: np.mean([v[key] for v in values], axis=0) for key in values[0]}
        wrong, words = mean["word_errors"]
        source_errors = [errors for row in rows if (errors := cases[row["id"]]["word_errors"]["source"])]
        of_sources = f"{100 * np.divide(*np.sum(source_errors, axis=0)):.1f} %" if source_errors else "–"
        accepted = [
            np.mean([v[f"{name}_target"] >= threshold for v in values]) for name, threshold in THRESHOLDS.items()
        ]
        print(
            f"| {name} | {len(rows)} | {mean['campplus_target']:.2f} | {mean['campplus_source']:.2f} | "
            f"{100 * wrong / words:.1f} % | {of_sources} | {mean['distillmos']:.2f} | "
            + " | ".join(f"{100 * share:.0f} %" for share in accepted)
            + " |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
