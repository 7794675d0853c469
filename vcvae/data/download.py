"""Downloading corpora by lhotse."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from vcvae.data.corpora import layout
from vcvae.errors import VcvaeError, disk_errors


def download(corpus: str, folder: Path) -> None:
    """Download and unpack the missing parts of a corpus into `folder`.

    Raises:
        VcvaeError: an unknown corpus, or one without a direct download; or the download fails.
    """
    layout(corpus)
    if corpus not in DOWNLOADS:
        raise VcvaeError(f"--download: cannot fetch {corpus}, only {', '.join(DOWNLOADS)}; put it into {folder}.")
    try:
        with disk_errors(folder, "downloaded to"):
            DOWNLOADS[corpus](folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise VcvaeError(f"{folder}: an archive of {corpus} is damaged ({error}); remove it and try again.") from None


def _vctk(folder: Path) -> None:
    # lhotse's function marks completion in a folder that the archive of version 0.92 does not create.
    from lhotse.recipes.vctk import EDINBURGH_VCTK_URL
    from lhotse.utils import resumable_download

    done = folder / "wav48_silence_trimmed" / ".completed"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / EDINBURGH_VCTK_URL.rsplit("/", 1)[1]
    resumable_download(EDINBURGH_VCTK_URL, filename=archive)
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    done.touch()


def _lhotse(recipe: str, function: str, *arguments: str) -> Callable[[Path], object]:
    def fetch(folder: Path) -> None:
        getattr(import_module(f"lhotse.recipes.{recipe}"), function)(folder, *arguments)

    return fetch


DOWNLOADS = {
    "vctk": _vctk,
    "libritts": _lhotse("libritts", "download_libritts"),
    "libritts-r": _lhotse("libritts", "download_librittsr"),
    "librispeech": _lhotse("librispeech", "download_librispeech", "librispeech"),
    "cmu-arctic": _lhotse("cmu_arctic", "download_cmu_arctic"),
    "aishell3": _lhotse("aishell3", "download_aishell3"),
}
