from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from vcvae.errors import VcvaeError
from vcvae.evaluate import draw_cases, read_cases
from vcvae.evaluate.cases import UTTERANCES_PER_TARGET, check_length, read_start


@pytest.fixture
def root(tmp_path):
    for name in ("a.wav", "b.wav", "spk/1.wav", "spk/2.flac"):
        (tmp_path / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "audio" / name).touch()
    return tmp_path / "audio"


def test_read_cases_reads_a_table_as_spreadsheets_write_it(root):
    table = root / "cases.tsv"
    table.write_bytes(
        b"\xef\xbb\xbfid\tsource\ttargets\ttranscript\treference\r\n"
        b"one\ta.wav\tb.wav; spk/1.wav\tHELLO YOU\tb.wav\r\n\r\n"
        b"two\tb.wav\tspk\r\n"
    )
    one, two = read_cases(table)
    assert (one.id, one.source, one.targets) == ("one", root / "a.wav", (root / "b.wav", root / "spk/1.wav"))
    assert (one.transcript, one.reference) == ("HELLO YOU", root / "b.wav")
    assert two.targets == (root / "spk/1.wav", root / "spk/2.flac")  # a folder stands for its recordings
    assert (two.transcript, two.reference) == ("", None)


def test_read_cases_leaves_out_what_cannot_be_read_of_a_targets_folder(root, caplog):
    sf.write(root / "spk/1.wav", np.random.default_rng(0).standard_normal(8000) / 10, 16000)
    (root / "spk/3.m4a").write_bytes(b"something else")
    (root / "cases.tsv").write_text("id\tsource\ttargets\none\ta.wav\tspk\n")
    assert read_cases(root / "cases.tsv")[0].targets == (root / "spk/1.wav",)
    assert "3.m4a is left out of the target" in caplog.text


def test_read_cases_takes_no_more_of_a_targets_folder_than_is_read(root, monkeypatch):
    for name in ("1.wav", "3.wav", "4.wav"):
        sf.write(root / "spk" / name, np.random.default_rng(0).standard_normal(16000) / 10, 16000)
    (root / "spk/2.flac").unlink()
    monkeypatch.setattr("vcvae.evaluate.cases.TARGET_MINUTES", 1.5 / 60)
    (root / "cases.tsv").write_text("id\tsource\ttargets\none\ta.wav\tspk\n")
    assert read_cases(root / "cases.tsv")[0].targets == (root / "spk/1.wav", root / "spk/3.wav")


def test_check_length_refuses_what_is_no_utterance(root, monkeypatch):
    path = root / "long.wav"
    sf.write(path, np.random.default_rng(0).standard_normal(16000 * 3) / 10, 16000)
    check_length(path)
    monkeypatch.setattr("vcvae.evaluate.cases.MAX_MINUTES", 2 / 60)
    with pytest.raises(VcvaeError, match=r"long\.wav: 0 minutes long; utterances are measured"):
        check_length(path)
    assert len(read_start(path, 16000)) == 2 * 16000


def test_read_cases_takes_paths_relative_to_the_root(root, tmp_path):
    (tmp_path / "cases.tsv").write_text("source\tid\ttargets\na.wav\t1\tb.wav\n")
    assert read_cases(tmp_path / "cases.tsv", root=root)[0].source == root / "a.wav"
    with pytest.raises(VcvaeError, match=r"line 2: the source .*a\.wav does not exist.*--root"):
        read_cases(tmp_path / "cases.tsv")


def test_read_cases_ignores_other_columns(root, caplog):
    (root / "plain.tsv").write_text("id\tsource\ttargets\ttranscript\n1\ta.wav\tb.wav\tHELLO\n")
    (root / "more.tsv").write_text(
        "id\tspeaker\tsource\tsex\ttargets\tsex\ttranscript\n1\tann\ta.wav\tF\tb.wav\tM\tHELLO\n"
    )
    assert read_cases(root / "more.tsv") == read_cases(root / "plain.tsv")
    assert not caplog.records
    (root / "misspelt.tsv").write_text("id\tsource\ttargets\ttranscripts\n1\ta.wav\tb.wav\tHELLO\n")
    assert read_cases(root / "misspelt.tsv")[0].transcript == ""
    assert "the column 'transcripts' is ignored; rename it to 'transcript' to use it" in caplog.text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "an empty file"),
        ("id\tsource\ttargets\n", "holds no cases"),
        ("id\tsource\n1\ta.wav\n", "no column 'targets'"),
        ("id\tsource\ttarget\n1\ta.wav\tb.wav\n", r"no column 'targets'; rename 'target' to it\.$"),
        ("id\tsource\tsex\n1\ta.wav\tF\n", "no column 'targets'; the columns are id, source, targets, and optionally"),
        ("id\tsource\ttargets\tid\n", "'id' appears twice"),
        ("id\tsource\ttargets\n1\ta.wav\tb.wav\tHI\n", "line 2 has 4 fields"),
        ("id\tsource\ttargets\n1\ta.wav\n", "line 2 has no targets"),
        ("id\tsource\ttargets\n1\ta.wav\t;\n", "line 2 has no targets"),
        ("id\tsource\ttargets\n../1\ta.wav\tb.wav\n", "'../1' cannot name a file"),
        ("id\tsource\ttargets\n1\ta.wav\tb.wav\n\n1\tb.wav\ta.wav\n", "line 4 has the id '1' of an earlier line"),
        ("id\tsource\ttargets\n1\ta.wav\tb.wav;c.wav\n", r"line 2: the target .*c\.wav does not exist"),
        ("id\tsource\ttargets\treference\n1\ta.wav\tb.wav\td.wav\n", r"line 2: the reference .*d\.wav does not exist"),
    ],
)
def test_read_cases_names_the_line_that_is_wrong(root, table, message):
    (root / "cases.tsv").write_text(table)
    with pytest.raises(VcvaeError, match=message):
        read_cases(root / "cases.tsv")


def utterances(*counts):
    return [(Path(f"{n}/{i}.flac"), f"speaker{n}") for n, many in enumerate(counts) for i in range(many)]


def test_draw_cases_draws_between_different_speakers_evenly():
    corpus = utterances(9, 3, 5, 7, 4, 6)
    cases = draw_cases(corpus, 24, seed=1)
    assert cases == draw_cases(corpus, 24, seed=1) != draw_cases(corpus, 24, seed=2)
    assert len({case.id for case in cases}) == len({(case.source, case.speakers) for case in cases}) == 24
    for case in cases:
        source, target = case.speakers
        assert source != target
        assert f"speaker{case.source.parent}" == source
        assert {f"speaker{path.parent}" for path in case.targets} == {target}
        assert len(case.targets) == len(set(case.targets)) == UTTERANCES_PER_TARGET
    for which in (0, 1):
        assert max(Counter(case.speakers[which] for case in cases).values()) <= 5
    assert len({case.targets for case in cases}) == 6  # a target speaker has the same utterances each time


def test_draw_cases_know_the_words_of_their_sources():
    cases = draw_cases(utterances(1, 1), 2, transcripts={Path("0/0.flac"): "one two"})
    assert {str(case.source): case.transcript for case in cases} == {"0/0.flac": "one two", "1/0.flac": ""}


def test_draw_cases_draws_none_twice_and_needs_two_speakers():
    cases = draw_cases(utterances(2, 1), 24)
    assert sorted((str(case.source), case.speakers[1]) for case in cases) == [
        ("0/0.flac", "speaker1"),
        ("0/1.flac", "speaker1"),
        ("1/0.flac", "speaker0"),
    ]
    with pytest.raises(VcvaeError, match="two speakers or more"):
        draw_cases(utterances(5), 24)
