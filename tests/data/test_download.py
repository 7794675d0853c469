"""What is fetched, and that it is then prepared; the network is a function that makes a miniature."""

import io
import tarfile
import zipfile

import lhotse.utils
import pytest

from tests.miniatures import MINIATURES, vctk
from vcvae.data.corpora import find
from vcvae.data.download import DOWNLOADS, download
from vcvae.errors import VcvaeError

RECIPES = {
    "libritts": ("libritts", "download_libritts"),
    "libritts-r": ("libritts", "download_librittsr"),
    "librispeech": ("librispeech", "download_librispeech"),
    "cmu-arctic": ("cmu_arctic", "download_cmu_arctic"),
    "aishell3": ("aishell3", "download_aishell3"),
}


def test_download_of_every_corpus_is_tested():
    assert set(DOWNLOADS) == {*RECIPES, "vctk"}


@pytest.mark.parametrize("corpus", RECIPES)
def test_download_uses_lhotse(corpus, tmp_path, monkeypatch):
    module, function = RECIPES[corpus]
    _, make = MINIATURES[corpus]
    expected = []
    monkeypatch.setattr(f"lhotse.recipes.{module}.{function}", lambda folder, *_: expected.extend(make(folder)))
    download(corpus, tmp_path)
    assert {utterance.identity for utterance in find(corpus, tmp_path)} == set(expected)


def test_download_librispeech_is_the_whole_corpus(tmp_path, monkeypatch):
    asked = []

    def refuse(url, **_):
        asked.append(url)
        raise OSError("no route to host")

    monkeypatch.setattr("lhotse.recipes.librispeech.resumable_download", refuse)
    with pytest.raises(VcvaeError, match="no route to host"):
        download("librispeech", tmp_path)
    assert asked[0].endswith("/12/dev-clean.tar.gz")


def test_download_vctk_once(tmp_path, monkeypatch):
    vctk(tmp_path / "original")
    fetched = []

    def fetch(url, filename):
        fetched.append(url)
        with zipfile.ZipFile(filename, "w") as archive:
            for path in sorted((tmp_path / "original").rglob("*")):
                archive.write(path, path.relative_to(tmp_path / "original"))

    monkeypatch.setattr(lhotse.utils, "resumable_download", fetch)
    for _ in range(2):
        download("vctk", tmp_path / "source")
    assert len(fetched) == 1
    assert fetched[0].endswith("VCTK-Corpus-0.92.zip")
    assert len(find("vctk", tmp_path / "source")) == 5


def test_download_names_a_damaged_archive(tmp_path, monkeypatch):
    def fetch(url, filename, **_):
        with io.BytesIO() as whole:
            with tarfile.open(fileobj=whole, mode="w:gz") as archive:
                archive.addfile(tarfile.TarInfo("train/wav"))
            filename.write_bytes(whole.getvalue()[:-30])

    monkeypatch.setattr("lhotse.recipes.aishell3.resumable_download", fetch)
    with pytest.raises(VcvaeError, match="damaged"):
        download("aishell3", tmp_path)


def test_download_refuses_what_needs_a_licence_agreement(tmp_path):
    for corpus in ("commonvoice", "folder"):
        with pytest.raises(VcvaeError, match=f"cannot fetch {corpus}"):
            download(corpus, tmp_path)
