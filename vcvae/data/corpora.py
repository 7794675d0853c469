"""The folder layouts of public corpora: recordings, their speakers, and known faults.

Recordings are found by their paths, and a corpus need not be complete. Transcripts are needed to count the word errors
of conversions alone; an utterance may have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from vcvae import audio
from vcvae.errors import VcvaeError
from vcvae.tables import read_lines

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
# Endings of the names that browsers and others give to what they have not yet fetched.
UNFINISHED_DOWNLOADS = (".part", ".partial", ".crdownload", ".aria2", ".download", ".filepart")


class Utterance(NamedTuple):
    """A recording of one speaker.

    Attributes:
        path: its file.
        speaker: the speaker's name.
        name: unique among the speaker's.
        transcript: its words, or the file that would hold them.
    """

    path: Path
    speaker: str
    name: str
    transcript: str | Path = ""

    @property
    def identity(self) -> tuple[str, str]:
        """The names of the speaker and of the utterance."""
        return self.speaker, self.name


class LeftOut(NamedTuple):
    """A file that is not used, and why."""

    path: Path
    reason: str


Files = list[Utterance | LeftOut]


class Corpus(NamedTuple):
    """How a corpus is recognized and read.

    `folders` are patterns below its root, one of which must exist. `parts` are patterns of archives that unpack into a
    folder of the same name.
    """

    folders: tuple[str, ...]
    find: Callable[[Path], Files]
    parts: tuple[str, ...] = ()


def find(corpus: str, source: Path) -> Files:
    """The recordings of a corpus in `source`, or in the folder that its archive made there, by speaker and name.

    Raises:
        VcvaeError: an unknown corpus, or a folder that does not look like it.
    """
    expected_layout = layout(corpus)
    if not source.is_dir():
        raise VcvaeError(f"{source}: no folder with audio files; give the one where {corpus} was unpacked.")
    root = _root(source, expected_layout.folders)
    expected = " or ".join(expected_layout.folders).replace("[-_]", "-")
    names = sorted(p.name for p in {*source.iterdir(), *(root or source).iterdir()} if p.is_file())
    for name in names:
        if name.endswith(UNFINISHED_DOWNLOADS):
            raise VcvaeError(f"{source}: holds {name}, an unfinished download; finish it, and unpack it there.")
    packed = [(name, _stem(name)) for name in names if name.endswith(ARCHIVES)]
    if root is None and packed:
        raise VcvaeError(f"{source}: holds {packed[0][0]}, but no {expected}; unpack it there.")
    if root is None:
        raise VcvaeError(f"{source}: does not look like {corpus}, which holds {expected}; give the folder that does.")
    for name, stem in packed:
        if any(fnmatch(stem, part) for part in expected_layout.parts) and not _is_folder(root, stem):
            raise VcvaeError(f"{source}: holds {name}, but nothing of it is in {root}; unpack it, or remove it.")
    for folder in _matches(root, expected_layout.folders):
        if folder.is_dir() and not any(path.suffix.lower() in audio.AUDIO_ENDINGS for path in folder.rglob("*")):
            raise VcvaeError(f"{folder}: holds no recordings; unpack its archive again, or remove the folder.")
    files = expected_layout.find(root) + _find_empty_folders(root, expected_layout.folders)
    recordings = [item.path for item in files if isinstance(item, Utterance)]
    if not recordings:
        raise VcvaeError(f"{root}: no recordings where {corpus} has them ({expected}); unpack its archive again.")
    if audio.is_pointer(recordings[0]):
        raise VcvaeError(f"{recordings[0]}: a Git LFS pointer, not the audio itself; run 'git lfs pull' in {root}.")
    return sorted(_unique(files), key=lambda item: item.identity if isinstance(item, Utterance) else ("",))


def _vctk(root: Path) -> Files:
    """CSTR VCTK: 110 speakers of English, 44 h, 48 kHz (Yamagishi et al. 2019, doi:10.7488/ds/2645).

    0.92 has `wav48_silence_trimmed/p225/p225_001_mic1.flac` and, of another microphone, `…_mic2.flac`. The second is
    missing for p280 and had faults with p315, so the first is used if it exists. p315 has no transcripts, and
    p362 some without recordings, which does not matter here. One speaker is s5, not p-something. The archive makes no
    folder of its own. 0.80 has `wav48/p225/p225_001.wav` of one microphone.
    """
    chosen = {}
    for path in _files(root, "wav48_silence_trimmed/*/*_mic?.flac"):  # sorted: mic1 comes before mic2
        chosen.setdefault(path.name.rsplit("_mic", 1)[0], path)
    named = chosen or {path.stem: path for path in _files(root, "wav48/*/*.wav")}
    return [
        Utterance(path, path.parent.name, name, root / "txt" / path.parent.name / f"{name}.txt")
        for name, path in named.items()
    ]


def _libri(root: Path) -> Files:
    """LibriSpeech (Panayotov et al. 2015), LibriTTS (Zen et al. 2019) and LibriTTS-R (Koizumi et al. 2023).

    `<part>/<speaker>/<chapter>/…`, FLAC at 16 kHz or WAV at 24 kHz. All parts are used together: the split is by
    speaker, and not the official one. LibriTTS's archives hold files of macOS, `._….wav`,
    which are no audio, and 1092_134562_000013_000004.wav is damaged. LibriSpeech has a table of transcripts for each
    chapter, the others a file for each utterance.
    """
    transcripts = _table([path for part in _PARTS for path in _files(root, f"{part}/*/*/*.trans.txt")])
    paths = [path for part in _PARTS for ending in ("flac", "wav") for path in _files(root, f"{part}/*/*/*.{ending}")]
    return [
        Utterance(
            path,
            path.parent.parent.name,
            path.stem,
            transcripts.get(path.stem) or path.with_suffix(".normalized.txt"),
        )
        for path in paths
    ]


def _cmu_arctic(root: Path) -> Files:
    """CMU ARCTIC: 18 speakers of English with the same 1132 sentences, 16 kHz (Kominek & Black 2004).

    `cmu_us_bdl_arctic/wav/arctic_a0001.wav`. Some speakers lack some sentences. `orig/`, beside `wav/`, has the
    larynx signal in its second channel and is not read.
    """
    transcripts = {}
    for folder in _files(root, "cmu_us_*_arctic*"):
        lines = _table(_files(folder, "etc/txt.done.data"), before="( ")  # ( arctic_a0001 "Author of …, etc." )
        transcripts |= {(folder.name, name): line.strip(' ")') for name, line in lines.items()}
    paths = _files(root, "cmu_us_*_arctic*/wav/*.wav")
    folders = [path.parent.parent.name for path in paths]
    return [
        Utterance(path, folder.split("_")[2], path.stem, transcripts.get((folder, path.stem), ""))
        for path, folder in zip(paths, folders, strict=True)
    ]


def _aishell3(root: Path) -> Files:
    """AISHELL-3: 218 speakers of Mandarin, 85 h, 44.1 kHz (Shi et al. 2021).

    `train/wav/SSB0005/SSB00050001.wav`, and `test/wav/…` likewise. Both are used together, and split by speaker.
    `content.txt` of each has the characters of each utterance with their sounds: SSB00050001.wav 广 guang3 州 zhou1.
    """
    lines = _table([path for part in ("train", "test") for path in _files(root, f"{part}/content.txt")])
    paths = [path for part in ("train", "test") for path in _files(root, f"{part}/wav/*/*.wav")]
    return [
        Utterance(path, path.parent.name, path.stem, "".join(lines.get(path.name, "").split()[::2])) for path in paths
    ]


def _commonvoice(root: Path) -> Files:
    """Mozilla Common Voice, any release and any number of its languages (Ardila et al. 2020).

    `clips/….mp3`, and `validated.tsv` with `client_id`, `path` and `sentence`, which may hold a quotation mark that is
    not closed. Releases 2 and 3 have paths without .mp3; whoever edits a table on Windows gives it a byte order mark.
    A client counts as a speaker, although one person can have several; its 128 digits are cut to 16, which are still
    unique. Clips that the table names and that are missing are reported.
    """
    files = []
    for table in _files(root, "validated.tsv") or _files(root, "*/validated.tsv"):
        if audio.is_pointer(table):
            raise VcvaeError(f"{table}: a Git LFS pointer, not the table itself; run 'git lfs pull' in {root}.")
        lines = read_lines(table)
        columns = next(lines, (1, ""))[1].split("\t")
        if not {"client_id", "path"} <= set(columns):
            raise VcvaeError(f"{table}: lacks client_id or path in its first line; unpack its archive again.")
        for number, line in lines:
            row = dict(zip(columns, line.split("\t"), strict=False))
            if not (row.get("client_id") and row.get("path")):
                files.append(LeftOut(table, f"line {number} lacks client_id or path"))
                continue
            clip = table.parent / "clips" / row["path"]
            if not clip.suffix:
                clip = clip.with_name(f"{clip.name}.mp3")
            missing = not clip.is_file() and LeftOut(clip, "missing, though validated.tsv names it")
            files.append(missing or Utterance(clip, row["client_id"][:16], clip.stem, row.get("sentence", "")))
    return files


def _folder(root: Path) -> Files:
    """Anyone's speech: `<speaker>/**/*`, of any format that libsndfile reads; `a.txt` holds the words of `a.wav`."""
    files = []
    for path in audio.find(root):
        speaker, *name = path.relative_to(root).parts
        utterance = Utterance(path, speaker, "/".join(name), path.with_suffix(".txt"))
        files.append(utterance if name else LeftOut(path, "not in a speaker's folder"))
    if all(isinstance(item, LeftOut) for item in files):
        raise VcvaeError(f"{root}: no speaker folders; put each speaker's recordings in a folder of their own.")
    return files


_PARTS = ("train[-_]*", "dev[-_]*", "test[-_]*")
CORPORA = {
    "vctk": Corpus(("wav48_silence_trimmed", "wav48"), _vctk),
    "libritts": Corpus(_PARTS, _libri, _PARTS),
    "libritts-r": Corpus(_PARTS, _libri, _PARTS),
    "librispeech": Corpus(_PARTS, _libri, _PARTS),
    "cmu-arctic": Corpus(("cmu_us_*_arctic*/wav",), _cmu_arctic, ("cmu_us_*",)),
    "aishell3": Corpus(("train/wav", "test/wav"), _aishell3),
    "commonvoice": Corpus(("validated.tsv", "*/validated.tsv"), _commonvoice),
    "folder": Corpus((), _folder),
}


def layout(corpus: str) -> Corpus:
    """Raises a VcvaeError where no corpus has that name."""
    if corpus not in CORPORA:
        raise VcvaeError(f"CORPUS {corpus}: unknown; give one of {', '.join(CORPORA)}.")
    return CORPORA[corpus]


def _root(source: Path, patterns: tuple[str, ...]) -> Path | None:
    """`source`, or else the first folder in it, that matches one of the patterns."""
    folders = (source, *sorted(p for p in source.iterdir() if p.is_dir() and not p.name.startswith(".")))
    return next((folder for folder in folders if _matches(folder, patterns) or not patterns), None)


def _matches(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [p for pattern in patterns for p in _files(root, pattern) if p.is_dir() or p.suffix == ".tsv"]


def _table(files: list[Path], *, before: str = "") -> dict[str, str]:
    """The lines of files, NAME TEXT each: text by name; `before`: what may stand before the name."""
    lines = [line.removeprefix(before).split(maxsplit=1) for file in files for _, line in read_lines(file)]
    return {words[0]: words[1] for words in lines if len(words) == 2}


def _find_empty_folders(root: Path, patterns: tuple[str, ...]) -> Files:
    """Speaker folders without files."""
    folders = [
        speaker for folder in _matches(root, patterns) if folder.is_dir() for speaker in sorted(folder.iterdir())
    ]
    return [
        LeftOut(folder, "an empty folder; if it should hold recordings, unpack its archive again")
        for folder in folders
        if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*"))
    ]


def _files(root: Path, pattern: str) -> list[Path]:
    return sorted(path for path in root.glob(pattern) if not path.name.startswith("."))


def _stem(name: str) -> str:
    return name.removesuffix(next(ending for ending in ARCHIVES if name.endswith(ending)))


def _is_folder(root: Path, stem: str) -> bool:
    """Whether the folder of an archive exists; LibriTTS-R's archives are train_clean_100 and its folders -100."""
    return any((root / name).is_dir() for name in (stem, stem.replace("_", "-")))


def _unique(files: Files) -> Iterator[Utterance | LeftOut]:
    seen = set()
    for item in files:
        if isinstance(item, Utterance) and item.identity in seen:
            item = LeftOut(item.path, f"another recording of {item.speaker} has the name {item.name}")
        elif isinstance(item, Utterance):
            seen.add(item.identity)
        yield item
