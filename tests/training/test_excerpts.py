import torch

from tests.corpus import make_corpus
from vcvae.training import excerpts
from vcvae.training.excerpts import beginning, drawn, segments


def test_judges_are_of_none_that_anything_is_made_of(tmp_path, monkeypatch):
    monkeypatch.setattr(excerpts, "JUDGES", 3)
    corpus = make_corpus(tmp_path / "corpus", speakers=4, utterances=2)
    used, judges = drawn(corpus, 22050, count=4, seed=0)
    assert len(used) == 5
    assert len(judges) == 3
    assert not set(used) & set(judges)
    assert drawn(corpus, 22050, count=4, seed=0) == (used, judges)
    assert drawn(corpus, 22050, count=4, seed=1) != (used, judges)
    everything, none = drawn(corpus, 22050, count=8, seed=0)
    assert set(everything) == {*used, *judges}
    assert none == []


def test_of_a_recording_whole_frames_of_the_first_seconds_are_heard(tmp_path, monkeypatch):
    corpus = make_corpus(tmp_path / "corpus", speakers=1, utterances=1, seconds=1.5)
    recording = drawn(corpus, 22050, count=1, seed=0)[0][0]
    whole = beginning(recording, 22050, multiple=256)
    assert whole.shape[1] % 256 == 0
    monkeypatch.setattr(excerpts, "LONGEST", 0.5)
    assert torch.equal(beginning(recording, 22050), whole[:, :11025])


def test_segments_are_stretches_of_each_as_long_as_the_shortest_allows():
    torch.manual_seed(0)
    long, short = torch.arange(50.0)[None, None], 100 + torch.arange(20.0)[None, None]
    found = segments([long, short], 8)
    assert found.shape == (2, 1, 8)
    assert (found.diff() == 1).all()
    assert segments([long, short], 30).shape == (2, 1, 20)
    starts = {segments([long, short], 8)[1, 0, 0].item() for _ in range(200)}
    assert starts == set(range(100, 113))
