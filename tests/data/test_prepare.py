import numpy as np
import pytest
import soundfile as sf
import soxr
from lhotse import CutSet

from tests.synthetic import speak
from vcvae.data.prepare import MANIFEST, LeftOut, prepare
from vcvae.errors import VcvaeError
from vcvae.mel import bandwidth


@pytest.fixture
def speakers(tmp_path):
    for name, pitch in [("low", 100), ("high", 200)]:
        folder = tmp_path / "source" / name / "session 1"
        folder.mkdir(parents=True)
        for i in range(2):
            sf.write(folder / f"{i}.wav", speak("aisoeu", pitch=pitch, seconds=1.5, seed=i), 22050)
    sf.write(tmp_path / "source" / "low" / "short.flac", speak("a", seconds=0.2), 22050)
    (tmp_path / "source" / "high" / "broken.mp3").write_text("no audio")
    return tmp_path / "source"


def test_every_file_is_prepared_or_left_out_with_a_reason(speakers, tmp_path):
    results = list(prepare(speakers, tmp_path / "ready", sample_rate=16000))
    left_out = {result.path.name: result.reason for result in results if isinstance(result, LeftOut)}
    assert set(left_out) == {"short.flac", "broken.mp3"}
    assert "too short" in left_out["short.flac"]
    cuts = list(CutSet.from_file(tmp_path / "ready" / MANIFEST))
    assert {(cut.id, cut.supervisions[0].speaker) for cut in cuts} == {
        (f"{name}/session 1/{i}", name) for name in ("low", "high") for i in range(2)
    }
    for cut in cuts:
        path = tmp_path / "ready" / cut.recording.sources[0].source
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.frames) == (16000, 1, cut.recording.num_samples)
        assert 0 < cut.custom["bandwidth"] <= 8000 * 1.01


def test_other_options_are_not_ignored_the_second_time(speakers, tmp_path):
    ready = tmp_path / "ready"
    list(prepare(speakers, ready, sample_rate=22050))
    again = list(prepare(speakers, ready, sample_rate=16000))
    for cut in (r for r in again if not isinstance(r, LeftOut)):
        assert sf.info(ready / cut.recording.sources[0].source).samplerate == cut.sampling_rate == 16000
    with pytest.raises(VcvaeError, match="none of its"):
        list(prepare(speakers, ready, sample_rate=16000, minimum_seconds=60))


def test_loose_files_are_left_out_and_linked_folders_are_not(speakers, tmp_path):
    sf.write(speakers / "loose.wav", speak("a"), 22050)
    (speakers / "again").symlink_to(speakers / "high" / "session 1")
    (speakers / "low" / "loop").symlink_to(speakers / "low")
    results = list(prepare(speakers, tmp_path / "ready", sample_rate=22050))
    assert "loose.wav" in {r.path.name for r in results if isinstance(r, LeftOut)}
    assert {r.supervisions[0].speaker for r in results if not isinstance(r, LeftOut)} >= {"again", "low"}


def test_running_again_makes_nothing_again_and_says_the_same(speakers, tmp_path):
    ready = tmp_path / "ready"
    first = [r for r in prepare(speakers, ready, sample_rate=22050) if not isinstance(r, LeftOut)]
    times = {p: p.stat().st_mtime_ns for p in ready.rglob("*.flac")}
    second = [r for r in prepare(speakers, ready, sample_rate=22050, jobs=2) if not isinstance(r, LeftOut)]
    assert {p: p.stat().st_mtime_ns for p in ready.rglob("*.flac")} == times
    assert [cut.id for cut in first] == [cut.id for cut in second]
    for a, b in zip(first, second, strict=True):
        assert abs(a.custom["bandwidth"] - b.custom["bandwidth"]) < 100


@pytest.mark.parametrize("rate", [8000, 16000])
def test_bandwidth_is_the_recordings_and_not_the_files(rate):
    noisy = speak("asifuo", seconds=2.0) + 0.003 * np.random.default_rng(0).standard_normal(44100)
    narrow = soxr.resample(soxr.resample(noisy, 22050, rate), rate, 22050)
    rounded = np.round(narrow * 2**15) / 2**15  # as it would be read from a 16-bit file
    assert bandwidth(rounded, 22050) == pytest.approx(rate / 2, rel=0.06)
    assert bandwidth(noisy, 22050) > 10500


def test_a_source_without_speakers_is_one_sentence(tmp_path):
    with pytest.raises(VcvaeError, match="no folder with audio files"):
        list(prepare(tmp_path / "nowhere", tmp_path / "ready", sample_rate=22050))
    source = tmp_path / "source"
    source.mkdir()
    sf.write(source / "loose.wav", speak("a"), 22050)
    with pytest.raises(VcvaeError, match="no speaker folders"):
        list(prepare(source, tmp_path / "ready", sample_rate=22050))
    (source / "speaker").mkdir()
    (source / "speaker" / "a.wav").write_text("no audio")
    with pytest.raises(VcvaeError, match="none of its 1 files"):
        list(prepare(source, tmp_path / "ready", sample_rate=22050))
    with pytest.raises(VcvaeError, match="lies within"):
        list(prepare(source, source / "ready", sample_rate=22050))
    assert not (tmp_path / "ready" / MANIFEST).exists()
