"""Errors that the user can correct: one sentence that names the file or option, what is wrong, and what to do."""

from __future__ import annotations

import itertools
import os
import platform
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished"  # ends the name of a file that is being written


class VcvaeError(Exception):
    """Bad input. The command line prints its message alone, without a traceback, and exits with code 2."""


def shorten(text: str, length: int = 60) -> str:
    """The text in one line; of a long one its beginning and '…'."""
    beginning = "".join(character if character.isprintable() else "?" for character in text[:length])
    return beginning if len(text) <= length else beginning + "…"


def reason(error: BaseException) -> str:
    """Why, in one short line: the first of the error's message, without a full stop, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return shorten(lines[0].rstrip("."), 200) if lines else type(error).__name__


@contextmanager
def disk_errors(path: str | Path, verb: str = "written", *, advice: str = "give another path") -> Iterator[None]:
    """Turn errors of the disk, or of a library that uses it, within the block into a VcvaeError about `path`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, AssertionError) as error:  # soundfile asserts that all is written
        problem = getattr(error, "strerror", None) or (reason(error) if str(error).strip() else "the disk may be full")
        raise VcvaeError(f"{path}: cannot be {verb} ({problem}); {advice}.") from None


def check_followable(path: str | Path) -> os.stat_result | None:
    """What is at `path`: a file or a folder, or None where there is nothing yet.

    Raises:
        VcvaeError: a pipe, a device or a socket, which may be waited for without end; or a path that leads nowhere,
            such as a loop of links, an empty name, or one with a NUL.
    """
    if not str(path):
        raise VcvaeError("'': an empty path; is a variable not set?")
    with disk_errors(path, "followed"):
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
    for is_kind, kind in _SPECIAL:
        if is_kind(status.st_mode):
            raise VcvaeError(f"{path}: {kind}, not a file; give the path of a file or a folder.")
    return status


_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_exists(path: str | Path, *, advice: str = "give another path") -> os.stat_result:
    """What is at `path`: a file or a folder.

    Raises:
        VcvaeError: as `check_followable`; or nothing is there.
    """
    status = check_followable(path)
    if status is None:
        raise VcvaeError(f"{path}: cannot be read (No such file or directory); {advice}.")
    return status


def check_file(path: str | Path, *, advice: str = "give the path of a file") -> None:
    """Check, before a file is opened, that there is one and that it holds something.

    Raises:
        VcvaeError: as `check_exists`; or it is a folder, or an empty file, as many of /proc are.
    """
    status = check_exists(path, advice=advice)
    if stat.S_ISDIR(status.st_mode):
        raise VcvaeError(f"{path}: a folder, not a file; {advice}.")
    if status.st_size == 0:
        raise VcvaeError(f"{path}: an empty file of 0 bytes; copy or make it again.")


def check_folder(path: str | Path) -> None:
    """Check, before any work is done, that a folder of results can be written to, or be made where there is none.

    Raises:
        VcvaeError: as `check_followable`; it is the root of the disk; or it, or what it would lie in, is a file or
            read-only.
    """
    status, folder, real = check_followable(path), Path(path), os.path.realpath(path)
    if real == os.path.dirname(real):
        raise VcvaeError(f"{path}: is the root of the disk; give a folder for the results.")
    while status is None and folder != folder.parent:
        folder = folder.parent
        status = check_followable(folder)
    if status is None or not stat.S_ISDIR(status.st_mode):
        raise VcvaeError(f"{path}: cannot be written, as {folder} is no folder; give another path.")
    if not os.access(folder, os.W_OK):
        raise VcvaeError(f"{path}: cannot be written, as {folder} is read-only; give another path.")


def check_absent(path: str | Path, force: bool) -> None:
    """Check, before any work is done, that a file can be written.

    Raises:
        VcvaeError: as `check_followable`; it exists, without `force`, or is a folder; its folder is missing or
            read-only.
    """
    status, folder = check_followable(path), Path(path).parent
    if status is not None and not (force and stat.S_ISREG(status.st_mode)):
        raise VcvaeError(f"{path}: exists already; give another name, or overwrite a file with --force.")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise VcvaeError(f"{path}: cannot be written, as {folder} is no folder or is read-only; make one.")


@contextmanager
def replacing(path: str | Path, *, advice: str = "give another path") -> Iterator[BinaryIO]:
    """A binary file to write, which replaces `path` at the end of the block; after an error nothing is left of it.

    Of several processes or threads that write one path at once, each writes all of its own, and the last one stays.
    """
    check_followable(path)
    with disk_errors(path, advice=advice), completed(path) as unfinished, open(unfinished, "wb") as file:
        yield file


@contextmanager
def completed(path: str | Path) -> Iterator[Path]:
    """Where a file is written, which becomes `path` at the end of the block; after an error nothing is left of it.

    The first file that this process writes in a folder removes what killed processes left there.
    """
    folder = os.path.abspath(os.path.dirname(path))
    if folder not in _searched:
        _searched.add(folder)
        remove_unfinished(folder)
    unfinished = Path(path).with_name(f"{_unfinished_of_this_process()}{next(_numbers)}{UNFINISHED}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


@contextmanager
def temporary_folder(parent: str | Path | None = None) -> Iterator[Path]:
    """A new folder that is removed at the end of the block; one of a killed process is removed by the next call.

    Args:
        parent: where it is made; by default, where this system has temporary files.
    """
    parent = parent or tempfile.gettempdir()
    remove_unfinished(parent)
    folder = Path(tempfile.mkdtemp(UNFINISHED, _unfinished_of_this_process(), parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(folder: str | Path) -> None:
    """Remove what killed processes of this machine were writing in a folder, if there is one."""
    begin = _unfinished_of_this_machine()
    names = []
    with suppress(OSError):
        names = [name for name in os.listdir(folder) if name.startswith(begin) and name.endswith(UNFINISHED)]
    for name in names:
        process, _, rest = name.removeprefix(begin).partition("-")
        # An earlier process may have had the number of this one: in a container, each may be 1.
        if rest.startswith(_token) if process == str(os.getpid()) else _is_running(process):
            continue
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(path)


_searched: set[str] = set()  # folders, for what killed processes left there
_numbers = itertools.count()
_token = secrets.token_hex(4)


def _unfinished_of_this_machine() -> str:
    machine = "".join(character for character in platform.node() if character.isalnum())
    return f".vcvae-{machine[:32]}-"


def _unfinished_of_this_process() -> str:
    return f"{_unfinished_of_this_machine()}{os.getpid()}-{_token}-"


def _is_running(process: str) -> bool:
    if os.name != "posix":  # elsewhere, this would be a signal to the process
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, OSError):  # another user's, or no number
        return True
    return True
