"""Miniatures of the real corpora: their folders, file names, formats and oddities."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import lhotse.utils
import numpy as np
import pytest
import soundfile as sf
from lhotse import CutSet

from tests.synthetic import speak
from vcvae.cli import main
from vcvae.data import corpora
from vcvae.data.corpora import LeftOut, Utterance, find
from vcvae.data.prepare import MANIFEST, Preparation
from vcvae.errors import VcvaeError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def say(path: Path, rate: int, *, speaker: int = 0, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = speak("aiueo", pitch=100 + 20 * speaker, seconds=1.2, sample_rate=rate, seed=speaker)
    sf.write(path, np.stack([samples] * channels, axis=1), rate)


def text(path: Path, content: str = "Please call Stella.\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def vctk(root: Path) -> set[tuple[str, str]]:
    """0.92, as its archive unpacks into a folder: p280 has one microphone only, p315 no transcripts."""
    text(root / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F    English    Southern\n")
    text(root / "wav48_silence_trimmed" / "log.txt", "log\n")
    for k, (speaker, microphones) in enumerate(
        {"p225": (1, 2), "p280": (1,), "p315": (1, 2), "p362": (2,), "s5": (1, 2)}.items()
    ):
        for microphone in microphones:
            name = f"{speaker}_001_mic{microphone}.flac"
            say(root / "wav48_silence_trimmed" / speaker / name, 48000, speaker=k)
        if speaker != "p315":
            text(root / "txt" / speaker / f"{speaker}_001.txt")
    text(root / "txt" / "p362" / "p362_002.txt")  # whose recording is missing
    return {(speaker, f"{speaker}_001") for speaker in ("p225", "p280", "p315", "p362", "s5")}


def vctk_080(root: Path) -> set[tuple[str, str]]:
    for k, speaker in enumerate(("p225", "p315")):
        say(root / "VCTK-Corpus" / "wav48" / speaker / f"{speaker}_001.wav", 48000, speaker=k)
    text(root / "VCTK-Corpus" / "txt" / "p225" / "p225_001.txt")
    return {("p225", "p225_001"), ("p315", "p315_001")}


def libritts(root: Path) -> set[tuple[str, str]]:
    for part, speaker in (("dev-clean", "84"), ("train-clean-100", "103")):
        chapter = root / "LibriTTS" / part / speaker / "1241"
        name = f"{speaker}_1241_000000_000001"
        say(chapter / f"{name}.wav", 24000)
        text(chapter / f"{name}.normalized.txt")
        text(chapter / f"{name}.original.txt")
        text(chapter / f"{speaker}_1241.trans.tsv", f"{name}\tChapter one.\tChapter one.\n")
        (chapter / f"._{name}.wav").write_bytes(b"\x00\x05\x16\x07")  # of macOS
    text(root / "LibriTTS" / "SPEAKERS.txt", ";ID  |SEX| SUBSET           |MINUTES| NAME\n")
    (root / "dev-clean.tar.gz").write_bytes(b"kept after unpacking")
    return {("84", "84_1241_000000_000001"), ("103", "103_1241_000000_000001")}


def libritts_r(root: Path) -> set[tuple[str, str]]:
    say(root / "LibriTTS_R" / "train-clean-100" / "103" / "1241" / "103_1241_000000_000001.wav", 24000)
    (root / "train_clean_100.tar.gz").write_bytes(b"kept after unpacking")
    return {("103", "103_1241_000000_000001")}


def librispeech(root: Path) -> set[tuple[str, str]]:
    for part, speaker in (("dev-clean-2", "1272"), ("train-clean-5", "1088"), ("test-other", "1688")):
        chapter = root / "LibriSpeech" / part / speaker / "128104"
        say(chapter / f"{speaker}-128104-0000.flac", 16000)
        text(chapter / f"{speaker}-128104.trans.txt", f"{speaker}-128104-0000 MISTER QUILTER\n")
    text(root / "LibriSpeech" / "SPEAKERS.TXT")
    return {(speaker, f"{speaker}-128104-0000") for speaker in ("1272", "1088", "1688")}


def cmu_arctic(root: Path) -> set[tuple[str, str]]:
    for k, speaker in enumerate(("bdl", "slt")):
        folder = root / f"cmu_us_{speaker}_arctic"
        say(folder / "wav" / "arctic_a0001.wav", 16000, speaker=k)
        say(folder / "orig" / "arctic_a0001.wav", 32000, speaker=k, channels=2)  # speech and larynx
        text(folder / "etc" / "txt.done.data", '( arctic_a0001 "Author of the danger trail." )\n')
    return {("bdl", "arctic_a0001"), ("slt", "arctic_a0001")}


def aishell3(root: Path) -> set[tuple[str, str]]:
    for part, name in (("train", "SSB00050001"), ("train", "SSB00090002"), ("test", "SSB00050353")):
        say(root / part / "wav" / name[:7] / f"{name}.wav", 44100)
        text(root / part / "content.txt", f"{name}.wav\t广 guang3 州 zhou1\n")
    text(root / "spk-info.txt", "SSB0005\tB\tfemale\tnorth\n")
    return {("SSB0005", "SSB00050001"), ("SSB0009", "SSB00090002"), ("SSB0005", "SSB00050353")}


def commonvoice(root: Path) -> set[tuple[str, str]]:
    """A release with two languages; a sentence with a quotation mark that is not closed, and a clip that is missing."""
    header = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment\n"
    found = set()
    for language, clients in (("it", ("a1", "b2")), ("cy", ("c3",))):
        rows = ""
        for k, client in enumerate(clients):
            name = f"common_voice_{language}_{k}"
            say(root / "cv-corpus-13.0" / language / "clips" / f"{name}.mp3", 48000, speaker=k)
            rows += f'{client * 64}\t{name}.mp3\tMa "che cosa\t2\t0\t\t\t\t\t{language}\t\n'
            found.add(((client * 64)[:16], name))
        rows += f"{'d4' * 64}\tcommon_voice_{language}_9.mp3\tManca.\t2\t0\t\t\t\t\t{language}\t\n"
        text(root / "cv-corpus-13.0" / language / "validated.tsv", header + rows)
        text(root / "cv-corpus-13.0" / language / "clip_durations.tsv")
    return found


def folder(root: Path) -> set[tuple[str, str]]:
    say(root / "anna" / "day 1" / "a.ogg", 16000)
    say(root / "ben" / "a.flac", 8000, channels=2)
    say(root / "ben" / "a.wav", 44100)
    return {("anna", "day 1/a.ogg"), ("ben", "a.flac"), ("ben", "a.wav")}


MINIATURES = {
    "vctk": ("vctk", vctk),
    "vctk 0.80": ("vctk", vctk_080),
    "libritts": ("libritts", libritts),
    "libritts-r": ("libritts-r", libritts_r),
    "librispeech": ("librispeech", librispeech),
    "cmu-arctic": ("cmu-arctic", cmu_arctic),
    "aishell3": ("aishell3", aishell3),
    "commonvoice": ("commonvoice", commonvoice),
    "folder": ("folder", folder),
}


@pytest.fixture
def vcvae(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["vcvae", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return (code, *capsys.readouterr())

    return run


def test_every_corpus_has_a_miniature():
    assert {corpus for corpus, _ in MINIATURES.values()} == set(corpora.CORPORA)


@pytest.mark.parametrize(("corpus", "make"), MINIATURES.values(), ids=MINIATURES)
def test_a_corpus_is_prepared(corpus, make, tmp_path):
    expected = make(tmp_path / "source")
    results = list(Preparation(corpus, tmp_path / "source", tmp_path / "ready", sample_rate=22050, dev=0, test=0))
    cuts = [result for result in results if not isinstance(result, LeftOut)]
    assert {(cut.supervisions[0].speaker, cut.id) for cut in cuts} == {(s, f"{s}/{name}") for s, name in expected}
    left_out = [result for result in results if isinstance(result, LeftOut)]
    assert len(left_out) == (2 if corpus == "commonvoice" else 0)
    assert all("missing, though validated.tsv names it" in reason for _, reason in left_out)
    manifest = tmp_path / "ready" / "train" / MANIFEST
    for cut in CutSet.from_file(manifest):
        info = sf.info(manifest.parent / cut.recording.sources[0].source)
        assert (info.format, info.samplerate, info.channels) == ("FLAC", 22050, 1)
        assert info.frames == cut.recording.num_samples
        assert 0.9 < cut.duration < 1.31
        assert 0 < cut.custom["bandwidth"] <= 11025


def test_the_first_microphone_is_taken_where_it_is_there(tmp_path):
    vctk(tmp_path)
    files = {utterance.speaker: utterance.path.name for utterance in find("vctk", tmp_path)}
    assert files["p225"].endswith("mic1.flac")
    assert files["p280"].endswith("mic1.flac")
    assert files["p362"].endswith("mic2.flac")


@pytest.mark.parametrize(("corpus", "make"), MINIATURES.values(), ids=MINIATURES)
def test_a_corpus_that_was_cloned_without_its_audio_is_one_sentence(corpus, make, tmp_path, vcvae):
    make(tmp_path / "source")
    for path in (tmp_path / "source").rglob("*"):
        if path.suffix in (".wav", ".flac", ".mp3", ".ogg"):
            path.write_text(POINTER)
    code, out, err = vcvae("prepare", corpus, tmp_path / "source", tmp_path / "ready")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Git LFS pointer" in err
    assert not (tmp_path / "ready").exists()


def test_a_table_that_is_a_pointer_or_no_table_is_one_sentence(tmp_path):
    commonvoice(tmp_path)
    table = tmp_path / "cv-corpus-13.0" / "it" / "validated.tsv"
    table.write_text(POINTER)
    with pytest.raises(VcvaeError, match=r"validated.tsv: a Git LFS pointer"):
        find("commonvoice", tmp_path)
    table.write_text("speaker\tfile\na\tb.mp3\n")
    with pytest.raises(VcvaeError, match="lacks client_id or path"):
        find("commonvoice", tmp_path)


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
def test_a_corpus_that_does_not_look_like_it_is_one_sentence(corpus, make, named, tmp_path, vcvae):
    make(tmp_path / "source")
    code, out, err = vcvae("prepare", corpus, tmp_path / "source", tmp_path / "ready")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert named in err
    assert not (tmp_path / "ready").exists()


def test_two_recordings_of_one_name_do_not_become_one(tmp_path):
    for version in ("cmu_us_bdl_arctic", "cmu_us_bdl_arctic-0.95-release"):
        say(tmp_path / version / "wav" / "arctic_a0001.wav", 16000)
    first, second = sorted(find("cmu-arctic", tmp_path), key=lambda item: isinstance(item, LeftOut))
    assert isinstance(first, Utterance)
    assert "another recording of bdl" in second.reason


RECIPES = {
    "libritts": ("libritts", "download_libritts"),
    "libritts-r": ("libritts", "download_librittsr"),
    "librispeech": ("librispeech", "download_librispeech"),
    "cmu-arctic": ("cmu_arctic", "download_cmu_arctic"),
    "aishell3": ("aishell3", "download_aishell3"),
}


@pytest.mark.parametrize("corpus", RECIPES)
def test_lhotse_fetches_what_it_can(corpus, tmp_path, monkeypatch, vcvae):
    module, function = RECIPES[corpus]
    called = []

    def fetch(target, *_):
        called.append(target)
        MINIATURES[corpus][1](Path(target))

    monkeypatch.setattr(f"lhotse.recipes.{module}.{function}", fetch)
    code, out, _ = vcvae("prepare", corpus, tmp_path / "source", tmp_path / "ready", "--download", "--jobs", 1)
    assert code == 0
    assert called == [tmp_path / "source"]
    assert "utterances" in out


def test_librispeech_is_fetched_whole(tmp_path, monkeypatch):
    asked = []

    def refuse(url, **_):
        asked.append(url)
        raise OSError("no route to host")

    monkeypatch.setattr("lhotse.recipes.librispeech.resumable_download", refuse)
    with pytest.raises(VcvaeError, match="no route to host"):
        corpora.download("librispeech", tmp_path)
    assert asked[0].endswith("/12/dev-clean.tar.gz")


def test_vctk_is_fetched_and_unpacked_once(tmp_path, monkeypatch):
    vctk(tmp_path / "original")
    fetched = []

    def fetch(url, filename):
        fetched.append(url)
        with zipfile.ZipFile(filename, "w") as archive:
            for path in sorted((tmp_path / "original").rglob("*")):
                archive.write(path, path.relative_to(tmp_path / "original"))

    monkeypatch.setattr(lhotse.utils, "resumable_download", fetch)
    for _ in range(2):
        corpora.download("vctk", tmp_path / "source")
    assert len(fetched) == 1
    assert fetched[0].endswith("VCTK-Corpus-0.92.zip")
    assert len(find("vctk", tmp_path / "source")) == 5


def test_a_damaged_archive_is_one_sentence(tmp_path, monkeypatch):
    def fetch(url, filename, **_):
        with io.BytesIO() as whole:
            with tarfile.open(fileobj=whole, mode="w:gz") as archive:
                archive.addfile(tarfile.TarInfo("train/wav"))
            filename.write_bytes(whole.getvalue()[:-30])

    monkeypatch.setattr("lhotse.recipes.aishell3.resumable_download", fetch)
    with pytest.raises(VcvaeError, match="damaged"):
        corpora.download("aishell3", tmp_path)


def test_what_needs_a_person_is_not_fetched(tmp_path):
    for corpus in ("commonvoice", "folder"):
        with pytest.raises(VcvaeError, match=f"cannot fetch {corpus}"):
            corpora.download(corpus, tmp_path)
