import numpy as np
import pytest
import soundfile as sf
import torch

from tests.synthetic import speak
from vcvae.data.prepare import prepare
from vcvae.data.segments import Segments
from vcvae.errors import VcvaeError
from vcvae.features.f0 import yin

RATE = 16000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Speaker a has four utterances of 2 s, b and c one each: b of 2 s, c too short for two segments."""
    root = tmp_path_factory.mktemp("corpus")
    for name, count, seconds in [("a", 4, 2.0), ("b", 1, 2.0), ("c", 1, 1.1)]:
        (root / "source" / name).mkdir(parents=True)
        for i in range(count):
            samples = speak("aiueo", seconds=seconds, sample_rate=RATE, seed=i, f0=100 + 20 * i)
            sf.write(root / "source" / name / f"{i}.wav", samples, RATE)
    prepare("folder", root / "source", root / "ready", sample_rate=RATE, dev=0, test=0)
    return root / "ready" / "train"


def lengths(examples, speaker):
    return examples.manifest.samples[examples.rows[speaker]]


def test_segments_example_is_two_segments_of_one_speaker(prepared):
    pairs = Segments(prepared, segment=12000, sample_rate=RATE)
    assert pairs.speakers == ["a", "b"]
    example = pairs[0]
    assert example["samples"].shape == (2, 12000)
    assert example["samples"].dtype == np.float32
    assert example["bandwidth"].shape == (2,)
    assert not np.allclose(*example["samples"])


def test_segments_example_n_depends_on_seed_and_n_only(prepared):
    pairs = Segments(prepared, segment=12000, sample_rate=RATE, seed=3)
    again = Segments(prepared, segment=12000, sample_rate=RATE, seed=3)
    for n in (7, 0, 12345):
        np.testing.assert_array_equal(pairs[n]["samples"], again[n]["samples"])
    other = Segments(prepared, segment=12000, sample_rate=RATE, seed=4)
    assert any((pairs[n]["samples"] != other[n]["samples"]).any() for n in range(4))


def test_segments_epoch_has_every_speaker_and_those_with_much_speech_more(prepared):
    pairs = Segments(prepared, segment=8000, sample_rate=RATE)
    count = len(pairs.epoch_speakers)
    for start in (0, count):
        drawn = sorted(pairs.speakers[pairs[n]["speaker"]] for n in range(start, start + count))
        assert drawn == sorted(pairs.speakers[i] for i in pairs.epoch_speakers)
        assert set(drawn) == {"a", "b", "c"}
    assert (pairs.epoch_speakers == 0).sum() > (pairs.epoch_speakers == 2).sum()


def test_segments_of_a_single_utterance_do_not_overlap(prepared):
    pairs = Segments(prepared, segment=12000, sample_rate=RATE)
    lone = lengths(pairs, 1)
    rng = np.random.default_rng(0)
    starts = np.array([[start for _, start in pairs._draw(lone, 12000, rng)] for _ in range(200)])
    assert (np.abs(np.diff(starts, axis=1)) >= 12000).all()
    assert starts.min() >= 0
    assert starts.max() <= lone[0] - 12000
    assert 0.3 < (starts[:, 0] < starts[:, 1]).mean() < 0.7


def test_segments_come_from_different_utterances_and_never_overlap(prepared):
    three = Segments(prepared, segment=8000, count=3, sample_rate=RATE)
    assert three.speakers == ["a", "b"]
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert len({utterance for utterance, _ in three._draw(lengths(three, 0), 8000, rng)}) == 3
        starts = sorted(start for _, start in three._draw(lengths(three, 1), 8000, rng))
        assert min(np.diff(starts)) >= 8000
    five = Segments(prepared, segment=8000, count=5, sample_rate=RATE)
    assert five.speakers == ["a"]
    drawn = [utterance for utterance, _ in five._draw(lengths(five, 0), 8000, rng)]
    assert sorted(drawn.count(utterance) for utterance in set(drawn)) == [1, 1, 1, 2]
    assert five[0]["samples"].shape == (5, 8000)


@pytest.fixture(scope="module")
def parallel(tmp_path_factory):
    """two-a and two-b have the same words at the same times in 0.wav, between silences, not in 1.wav; c is alone."""
    root = tmp_path_factory.mktemp("parallel")
    for name, f0, words in [("two-a", 100, "aiueo"), ("two-b", 200, "aiueo"), ("c", 300, "aiueo")]:
        (root / "source" / name).mkdir(parents=True)
        for i in range(2):
            samples = speak(words, f0=f0, tract=1 + f0 / 1000, seconds=2.0 + i * f0 / 200, sample_rate=RATE)
            silence = np.zeros(4000 + 10 * f0 if i else 6000)
            sf.write(root / "source" / name / f"{i}.wav", np.concatenate([silence, samples, silence]), RATE)
    prepare("folder", root / "source", root / "ready", sample_rate=RATE, dev=0, test=0, parallel="two-")
    return root / "ready" / "train"


def test_segments_parallel_speech_is_the_same_words_at_the_same_times(parallel):
    examples = Segments(parallel, segment=12000, sample_rate=RATE, parallel=True, speeds=(1.0, 1.25))
    seen = set()
    for n in range(40):
        example = examples[n]
        name = examples.speakers[example["speaker"] // 2]
        for own, other, is_parallel in zip(
            example["samples"], example["parallel"], example["is_parallel"], strict=True
        ):
            seen.add((name, bool(is_parallel)))
            if not is_parallel:
                np.testing.assert_array_equal(own, other)
                continue
            f0s = yin(torch.from_numpy(np.stack([own, other])), sample_rate=RATE, hop=256).statistics().mean
            octaves = (f0s[1] - f0s[0]) * (1 if name == "two-a" else -1)
            assert octaves == pytest.approx(1.0, abs=0.15) or octaves.isnan()
            loud = np.abs(own).reshape(-1, 400).mean(1) > 0.003
            loud_other = np.abs(other).reshape(-1, 400).mean(1) > 0.003
            assert (loud == loud_other).mean() > 0.85
    assert seen == {("two-a", True), ("two-a", False), ("two-b", True), ("two-b", False), ("c", False)}


def test_segments_have_no_parallel_speech_unless_asked_for_and_listed(prepared, parallel):
    assert "parallel" not in Segments(prepared, segment=8000, sample_rate=RATE, parallel=True)[0]
    assert "parallel" not in Segments(parallel, segment=12000, sample_rate=RATE)[0]


def test_segments_name_what_is_wrong_with_the_folder(prepared, tmp_path):
    with pytest.raises(VcvaeError, match="vcvae prepare CORPUS SOURCE"):
        Segments(tmp_path, segment=100, sample_rate=RATE)
    (tmp_path / "cuts.jsonl.gz").write_text("{}")
    with pytest.raises(VcvaeError, match=r"so give .*train"):
        Segments(prepared.parent, segment=100, sample_rate=RATE)
    with pytest.raises(VcvaeError, match="not a manifest"):
        Segments(tmp_path, segment=100, sample_rate=RATE)
    with pytest.raises(VcvaeError, match="prepared at 16000 Hz"):
        Segments(prepared, segment=100, sample_rate=22050)
    with pytest.raises(VcvaeError, match="no speaker has 2 segments of 10"):
        Segments(prepared, segment=160000, sample_rate=RATE)


def test_segments_at_another_speed_are_another_speaker_with_another_f0(prepared):
    both = Segments(prepared, segment=8192, sample_rate=RATE, speeds=[1.0, 1.25])
    statistics = {n: [] for n in range(2 * len(both.speakers))}
    for n in range(60):
        example = both[n]
        assert example["samples"].shape == (2, 8192)
        assert example["bandwidth"].max() <= RATE / 2
        mean = yin(torch.from_numpy(example["samples"]), sample_rate=RATE, hop=256).statistics().mean
        statistics[int(example["speaker"])].append(mean.nanmean().item())
    for speaker in range(len(both.speakers)):
        slow = np.median(statistics[2 * speaker])
        fast = np.median(statistics[2 * speaker + 1])
        assert fast - slow == pytest.approx(np.log2(1.25), abs=0.15)
