"""Finding audio files in folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vcvae.audio.opening import open_audio
from vcvae.errors import VcvaeError, disk_errors

# fmt: off
AUDIO_ENDINGS = (  # what libsndfile reads; not .mat and .htk, which mostly hold other data
    ".8svx", ".afc", ".aif", ".aifc", ".aiff", ".au", ".avr", ".bwf", ".caf", ".flac", ".iff", ".ircam", ".mp1", ".mp2",
    ".mp3", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".paf", ".pvf", ".rf64", ".sds", ".sf", ".snd", ".sph", ".svx",
    ".voc", ".w64", ".wav", ".wave", ".wve",
)
OTHER_ENDINGS = (  # what phones, browsers and players write, and libsndfile does not read
    ".3gp", ".3gpp", ".aac", ".ac3", ".amr", ".ape", ".awb", ".dsf", ".dts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv",
    ".mov", ".mp4", ".mpc", ".mpeg", ".ra", ".spx", ".tta", ".weba", ".webm", ".wma", ".wv",
)
# fmt: on


def find(folder: str | Path) -> list[Path]:
    """The audio files in a folder and below it, sorted; links are followed, hidden files left out.

    Those whose endings are `AUDIO_ENDINGS` or `OTHER_ENDINGS`: formats that cannot be read are among them, so that
    reading them reports why.

    Raises:
        VcvaeError: it is not a folder, a folder in it cannot be read, or there is no audio file in it.
    """

    def refuse(error: OSError) -> None:
        raise VcvaeError(f"{error.filename}: cannot be read ({error.strerror}); give a folder with audio files.")

    files, visited = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(parent)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        files += [path for path in paths if path.suffix.lower() in AUDIO_ENDINGS + OTHER_ENDINGS]
    files.sort()
    if not files:
        raise VcvaeError(f"{folder}: no folder with audio files, such as .wav, .flac, .mp3 or .ogg.")
    return files


def find_readable(path: str | Path, leave_out: Callable[[Path, str], None]) -> Iterator[Path]:
    """The audio files of a folder that can be opened; or the one file named. Each is opened when it is asked for.

    `leave_out` is called with each other one, and the reason.

    Raises:
        VcvaeError: as `find`; or the file, or none of the folder's files, can be opened.
    """
    path = Path(path)
    with disk_errors(path, "read"):
        files = find(path) if path.is_dir() else [path]
    if files == [path]:
        open_audio(path).close()
        yield path
        return
    first, found = "", False
    for file in files:
        try:
            open_audio(file).close()
        except VcvaeError as error:
            first = first or str(error)
            leave_out(file, str(error).removeprefix(f"{file}: "))
            continue
        found = True
        yield file
    if not found:
        raise VcvaeError(f"{path}: none of its {len(files)} audio files can be read; {first}")
