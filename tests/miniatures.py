"""Miniatures of the real corpora: their folders, file names, formats and oddities.

Each function writes one into a folder, and returns the (speaker, name) of each utterance in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf

from tests.synthetic import speak


def say(path: Path, rate: int, *, speaker: int = 0, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = speak("aiueo", f0=100 + 20 * speaker, seconds=1.2, sample_rate=rate, seed=speaker)
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
    expected = set()
    for language, clients in (("it", ("a1", "b2")), ("cy", ("c3",))):
        rows = ""
        for k, client in enumerate(clients):
            name = f"common_voice_{language}_{k}"
            say(root / "cv-corpus-13.0" / language / "clips" / f"{name}.mp3", 48000, speaker=k)
            rows += f'{client * 64}\t{name}.mp3\tMa "che cosa\t2\t0\t\t\t\t\t{language}\t\n'
            expected.add(((client * 64)[:16], name))
        rows += f"{'d4' * 64}\tcommon_voice_{language}_9.mp3\tManca.\t2\t0\t\t\t\t\t{language}\t\n"
        text(root / "cv-corpus-13.0" / language / "validated.tsv", header + rows)
        text(root / "cv-corpus-13.0" / language / "clip_durations.tsv")
    return expected


def commonvoice_2(root: Path) -> set[tuple[str, str]]:
    """Release 2, whose table has paths without .mp3, after an editor of Windows has saved it."""
    rows = ["client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"]
    for k, client in enumerate(("a1", "b2")):
        say(root / "en" / "clips" / f"{client * 32}.mp3", 48000, speaker=k)
        rows += [f"{client * 64}\t{client * 32}\tA sentence.\t2\t0\t\t\t", f"{client * 64}\tgone{k}\tGone.\t2\t0\t\t\t"]
    (root / "en" / "validated.tsv").write_bytes("\r\n".join([*rows, ""]).encode("utf-8-sig"))
    return {((client * 64)[:16], client * 32) for client in ("a1", "b2")}


def folder(root: Path) -> set[tuple[str, str]]:
    say(root / "anna" / "day 1" / "a.ogg", 16000)
    text(root / "anna" / "day 1" / "a.txt", "Her\nwords.\n")
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
    "commonvoice 2": ("commonvoice", commonvoice_2),
    "folder": ("folder", folder),
}
