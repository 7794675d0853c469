import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import QUICK, read_or_refused
from vcvae.errors import VcvaeError
from vcvae.evaluate import compare


def value(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "count": 3}


def write(folder, *, similarity, accepted, cost=None):
    folder.mkdir()
    report = {
        "summary": {"similarity": {"label": "similarity", "conversions": value(similarity), "sources": value(0.3)}},
        "verification": {
            "campplus": {"same_speaker": value(0.8), "strangers": value(0.2), "accepted": value(accepted)}
        },
        "speakers": {"eer": {"label": "equal error rate", "value": 0.125, "chance": 0.5}},
        "cost": cost,
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_compare_has_a_column_for_each_report_and_one_for_natural_recordings(tmp_path):
    folders = [
        write(tmp_path / "one-pass", similarity=0.5, accepted=0.1, cost={"seconds": 5.25, "threads": 2}),
        write(tmp_path / "learned", similarity=0.7, accepted=0.8),
    ]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in compare(folders).splitlines()]
    assert rows[0] == ["", "natural", "one-pass", "learned"]
    table = {row[0]: row[1:] for row in rows[2:]}
    assert table["similarity"] == ["0.3 [0.2, 0.4]", "0.5 [0.4, 0.6]", "0.7 [0.6, 0.8]"]
    assert table["same speaker, campplus"] == ["0.8 [0.7, 0.9]", "–", "–"]
    assert table["accepted as the target, campplus"] == ["–", "0.1 [0, 0.2]", "0.8 [0.7, 0.9]"]
    assert table["one `vcvae convert`, seconds of wall time"] == ["–", "5.25", "–"]
    assert table["equal error rate"] == ["–", "0.125", "0.125"]


@pytest.mark.parametrize("text", ["{}", '{"summary": 5}', '{"summary": {"a": {}}}'])
def test_compare_refuses_what_is_no_report(tmp_path, text):
    with pytest.raises(VcvaeError, match=r"report\.json: .*give the output folder of 'vcvae evaluate'"):
        compare([tmp_path])
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(VcvaeError, match="not a report of this version"):
        compare([tmp_path])


PLAIN = st.none() | st.booleans() | st.sampled_from([10**400, -1, 0.5, "x", "a|b"])


@QUICK
@given(data=st.data())
def test_compare_refuses_whatever_is_in_a_report(tmp_path, data):
    folder = tmp_path / "made"
    if not folder.exists():
        write(folder, similarity=0.5, accepted=0.1, cost={"seconds": 5.25})
    report = json.loads((folder / "report.json").read_text())
    parent, key = report, data.draw(st.sampled_from(sorted(report)))
    while isinstance(parent[key], dict) and data.draw(st.booleans()):
        parent = parent[key]
        key = data.draw(st.sampled_from(sorted(parent)))
    parent[key] = data.draw(
        PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.sampled_from(["mean", "a"]), PLAIN)
    )
    read_or_refused(lambda path: compare([path.parent]), tmp_path / "report.json", json.dumps(report).encode())
