"""Voices that were learned, kept in the user's cache: the next conversion to the same target learns nothing."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vcvae.arrays import is_path
from vcvae.defaults import VOICE_SUFFIX
from vcvae.errors import VcvaeError, disk_errors, remove_unfinished
from vcvae.models.conversion.voice import Voice

MAX_CACHE_BYTES = 2 * 10**9  # of all kept voices, about a thousand; those not used for longest make room
DIGEST_BLOCK, MAX_DIGEST_BLOCKS = 2**20, 64  # bytes, and their number: half a minute of 16 channels of 48 kHz

_log = logging.getLogger("vcvae")


def default_folder() -> Path:
    """Where this user's voices are kept, by the rules of the operating system."""
    import platformdirs  # a tenth of a second, which a conversion without a cache need not wait for

    return platformdirs.user_cache_path("vcvae") / "voices"


class VoiceCache:
    """A folder of learned voices, each named by a hash of all that it depends on.

    Several processes may use one folder: a voice appears in it complete, and one that disappears is learned again.
    """

    def __init__(self, folder: str | Path | None = None, *, max_bytes: int = MAX_CACHE_BYTES) -> None:
        """`folder` is by default the user's (`default_folder`); it holds `max_bytes` at most."""
        self.folder = Path(folder) if folder else default_folder()
        self.max_bytes = max_bytes

    def find(self, key: str) -> Voice | None:
        """The voice that was kept under a key, if it is still there and can be read."""
        path = self._path(key)
        try:
            voice = Voice.load(path)
        except VcvaeError:
            return None
        with suppress(OSError):
            os.utime(path)  # the order of use
        return voice

    def keep(self, key: str, voice: Voice) -> Voice:
        """Keep a voice under a key → the voice as it is read from there; logs a warning where it cannot be kept."""
        path = self._path(key)
        try:
            with disk_errors(self.folder, "made"):
                self.folder.mkdir(parents=True, exist_ok=True)
            voice.save(path)
            kept = Voice.load(path)
        except VcvaeError as error:
            _log.warning(f"the voice that was learned is not kept: {error}")
            return voice
        self._make_room()
        return kept

    def files(self) -> list[Path]:
        """The kept voices, the last used first."""
        dated = []
        for path in self.folder.glob(f"*{VOICE_SUFFIX}"):
            with suppress(OSError):  # another process may have removed it
                dated.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(dated, reverse=True)]

    def clear(self) -> int:
        """Remove all kept voices → their number.

        Raises:
            VcvaeError: one cannot be removed.
        """
        files = self.files()
        for path in files:
            with disk_errors(path, "removed", advice="remove it yourself"):
                path.unlink(missing_ok=True)
        return len(files)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{VOICE_SUFFIX}"

    def _make_room(self) -> None:
        remove_unfinished(self.folder)
        total = 0
        for number, path in enumerate(self.files()):
            with suppress(OSError):
                total += path.stat().st_size
                if total > self.max_bytes and number:  # the last one stays in any case
                    path.unlink()


def voice_key(targets: Iterable[np.ndarray], sources: Iterable[str | Path | np.ndarray], **settings: Any) -> str:
    """A hash of all that a learned voice depends on, 32 hexadecimal digits.

    Args:
        targets: samples (samples,) of the speaker, as they are learned.
        sources: the recordings that fine-tuning converts: paths, by the files' bytes, or samples.
        settings: anything else, such as the fingerprint of the model; values that JSON can hold.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for samples in targets:
        digest.update(hashlib.sha256(np.ascontiguousarray(samples, np.float32)).digest())
    digest.update(b"sources")
    for source in sources:
        if is_path(source):
            with suppress(OSError):  # one that cannot be read is left out of fine-tuning, too
                digest.update(_file_digest(source))
        else:
            digest.update(hashlib.sha256(np.ascontiguousarray(source, np.float32)).digest())
    return digest.hexdigest()[:32]


def _file_digest(path: str | Path) -> bytes:
    """SHA-256 of a file; of one of hours, of whose first half minute is used, that of its first part and its size."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for _ in range(MAX_DIGEST_BLOCKS):
            digest.update(file.read(DIGEST_BLOCK))
        if (size := os.fstat(file.fileno()).st_size) > MAX_DIGEST_BLOCKS * DIGEST_BLOCK:
            digest.update(str(size).encode())
    return digest.digest()
