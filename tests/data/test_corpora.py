"""Miniatures of the corpora are read and prepared; a folder of another layout is refused in one sentence."""

from pathlib import Path

import pytest
import soundfile as sf
from lhotse import CutSet

from tests.miniatures import MINIATURES, commonvoice, librispeech, libritts, say, text, vctk
from vcvae.data.corpora import CORPORA, LeftOut, Utterance, find
from vcvae.data.cuts import MANIFEST
from vcvae.data.manifest import Manifest
from vcvae.data.prepare import prepare
from vcvae.errors import VcvaeError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def test_corpora_all_have_a_miniature():
    assert {corpus for corpus, _ in MINIATURES.values()} == set(CORPORA)


TRANSCRIPTS = {
    "vctk": {"Please call Stella.", None},  # p315 has none
    "libritts": {"Please call Stella."},
    "libritts-r": {None},
    "librispeech": {"MISTER QUILTER"},
    "cmu-arctic": {"Author of the danger trail."},
    "aishell3": {"广州", None},
    "commonvoice": {'Ma "che cosa'},
    "commonvoice 2": {"A sentence."},
    "folder": {"Her words.", None},
}


@pytest.mark.parametrize("name", MINIATURES)
def test_prepare_reads_every_corpus(name, tmp_path):
    corpus, make = MINIATURES[name]
    expected = make(tmp_path / "source")
    report = prepare(corpus, tmp_path / "source", tmp_path / "ready", sample_rate=22050, dev=0, test=0)
    manifest = tmp_path / "ready" / "train" / MANIFEST
    cuts = list(CutSet.from_file(manifest))
    assert report.utterances == len(cuts)
    assert {(cut.supervisions[0].speaker, cut.id) for cut in cuts} == {(s, f"{s}/{name}") for s, name in expected}
    assert len(report.left_out) == (2 if corpus == "commonvoice" else 0)
    assert all("missing, though validated.tsv names it" in reason for _, reason in report.left_out)
    assert {cut.supervisions[0].text for cut in cuts} == TRANSCRIPTS[name.removesuffix(" 0.80")]
    words = {path.resolve(): text for path, text in Manifest(manifest.parent, 22050).transcripts().items()}
    assert words == {
        (manifest.parent / cut.recording.sources[0].source).resolve(): cut.supervisions[0].text
        for cut in cuts
        if cut.supervisions[0].text
    }
    for cut in cuts:
        info = sf.info(manifest.parent / cut.recording.sources[0].source)
        assert (info.format, info.samplerate, info.channels) == ("FLAC", 22050, 1)
        assert info.frames == cut.recording.num_samples
        assert 0.9 < cut.duration < 1.31
        assert 0 < cut.custom["bandwidth"] <= 11025


def test_find_vctk_prefers_the_first_microphone(tmp_path):
    vctk(tmp_path)
    files = {utterance.speaker: utterance.path.name for utterance in find("vctk", tmp_path)}
    assert files["p225"].endswith("mic1.flac")
    assert files["p280"].endswith("mic1.flac")
    assert files["p362"].endswith("mic2.flac")


@pytest.mark.parametrize(("corpus", "make"), MINIATURES.values(), ids=MINIATURES)
def test_prepare_command_refuses_a_corpus_of_git_lfs_pointers(corpus, make, tmp_path, vcvae):
    make(tmp_path / "source")
    for path in (tmp_path / "source").rglob("*"):
        if path.suffix in (".wav", ".flac", ".mp3", ".ogg"):
            path.write_text(POINTER)
    code, out, err = vcvae("prepare", corpus, tmp_path / "source", tmp_path / "ready")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Git LFS pointer" in err
    assert not (tmp_path / "ready").exists()


def test_find_commonvoice_refuses_a_table_that_is_a_pointer_or_lacks_columns(tmp_path):
    commonvoice(tmp_path)
    table = tmp_path / "cv-corpus-13.0" / "it" / "validated.tsv"
    table.write_text(POINTER)
    with pytest.raises(VcvaeError, match=r"validated.tsv: a Git LFS pointer"):
        find("commonvoice", tmp_path)
    table.write_text("speaker\tfile\na\tb.mp3\n")
    with pytest.raises(VcvaeError, match="lacks client_id or path"):
        find("commonvoice", tmp_path)
    table.write_text("\n\n")
    with pytest.raises(VcvaeError, match="lacks client_id or path"):
        find("commonvoice", tmp_path)
    table.write_text("x" * 100_000)
    with pytest.raises(VcvaeError, match="line 1 is longer"):
        find("commonvoice", tmp_path)


def test_find_commonvoice_leaves_out_a_row_without_a_client(tmp_path):
    commonvoice(tmp_path)
    table = tmp_path / "cv-corpus-13.0" / "it" / "validated.tsv"
    table.write_text(table.read_text() + "\tcommon_voice_it_0.mp3\t\nd4\n")
    left_out = [item.reason for item in find("commonvoice", tmp_path) if item.path == table]
    assert left_out == ["line 5 lacks client_id or path", "line 6 lacks client_id or path"]


def empty(root: Path) -> None:
    root.mkdir()


def packed(root: Path) -> None:
    text(root / "VCTK-Corpus-0.92.zip")


def loading(root: Path) -> None:
    libritts(root)
    text(root / "train-clean-360.tar.gz.part")


def one_part_packed(root: Path) -> None:
    librispeech(root)
    text(root / "train-clean-100.tar.gz")


def one_part_empty(root: Path) -> None:
    librispeech(root)
    (root / "LibriSpeech" / "train-clean-100").mkdir()


def no_speakers(root: Path) -> None:
    (root / "wav48_silence_trimmed" / "p225").mkdir(parents=True)


def other_names(root: Path) -> None:
    say(root / "wav48" / "p225.wav", 48000)


FAULTS = {
    "nothing there": ("vctk", empty, "wav48_silence_trimmed or wav48"),
    "another corpus": ("aishell3", librispeech, "train/wav or test/wav"),
    "not unpacked": ("vctk", packed, "VCTK-Corpus-0.92.zip"),
    "a download on its way": ("libritts", loading, "train-clean-360.tar.gz.part"),
    "a part not unpacked": ("librispeech", one_part_packed, "train-clean-100.tar.gz"),
    "a part without recordings": ("librispeech", one_part_empty, "train-clean-100: holds no recordings"),
    "speakers without recordings": ("vctk", no_speakers, "wav48_silence_trimmed: holds no recordings"),
    "recordings elsewhere": ("vctk", other_names, "no recordings where vctk has them"),
}


@pytest.mark.parametrize(("corpus", "make", "named"), FAULTS.values(), ids=FAULTS)
def test_prepare_command_names_what_a_corpus_lacks(corpus, make, named, tmp_path, vcvae):
    make(tmp_path / "source")
    code, out, err = vcvae("prepare", corpus, tmp_path / "source", tmp_path / "ready")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert named in err
    assert not (tmp_path / "ready").exists()


def test_find_reports_a_speaker_without_recordings(tmp_path):
    vctk(tmp_path)
    (tmp_path / "wav48_silence_trimmed" / "p376").mkdir()
    (left_out,) = [item for item in find("vctk", tmp_path) if isinstance(item, LeftOut)]
    assert left_out.path.name == "p376"
    assert "empty folder" in left_out.reason


def test_find_reports_a_second_recording_of_one_name(tmp_path):
    for version in ("cmu_us_bdl_arctic", "cmu_us_bdl_arctic-0.95-release"):
        say(tmp_path / version / "wav" / "arctic_a0001.wav", 16000)
    first, second = sorted(find("cmu-arctic", tmp_path), key=lambda item: isinstance(item, LeftOut))
    assert isinstance(first, Utterance)
    assert "another recording of bdl" in second.reason


def test_prepare_command_downloads_and_prepares(tmp_path, monkeypatch, vcvae):
    monkeypatch.setattr("lhotse.recipes.aishell3.download_aishell3", lambda folder: MINIATURES["aishell3"][1](folder))
    call = ("prepare", "aishell3", tmp_path / "source", tmp_path / "ready", "--download", "--jobs", 1)
    code, out, _ = vcvae(*call)
    assert code == 0
    assert "3 utterances; speakers: train 2, dev 0, test 0" in out
