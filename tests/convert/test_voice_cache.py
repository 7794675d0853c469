"""The cache of learned voices: order of use, its size, and several processes at once."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vcvae.convert import voice_cache
from vcvae.convert.voice_cache import VoiceCache, default_folder, voice_key
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.conversion.voice import Voice, VoiceCard

ROOT = Path(__file__).parents[2]


@pytest.fixture
def voice():
    reference = SpeakerReference(
        torch.ones(1, 8), torch.zeros(1, 0), torch.ones(1, 9, 64), torch.ones(1, 9, 16), torch.ones(1, 9, 1)
    )
    statistics = F0Statistics(torch.ones(1), torch.ones(1))
    return Voice(reference, statistics, torch.ones(1, 80), card=VoiceCard(name="Ann"))


def keep_dated(cache, voice, keys):
    """Keep a voice under each key, and date the files a minute apart, the last one newest."""
    for number, key in enumerate(keys):
        path = cache.keep(key, voice).path
        os.utime(path, (1e9 + 60 * number, 1e9 + 60 * number))


def test_cache_finds_what_it_keeps(voice, tmp_path):
    cache = VoiceCache(tmp_path / "deep" / "voices")
    assert cache.find("a") is None
    assert cache.files() == []
    kept = cache.keep("a", voice)
    assert kept.path == tmp_path / "deep" / "voices" / "a.voice"
    assert cache.find("a").card.name == "Ann"
    assert cache.find("b") is None


def test_cache_lies_where_the_system_wants_it(monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("cache of") / name)
    assert default_folder() == VoiceCache().folder == Path("cache of") / "vcvae" / "voices"


def test_cache_keeps_the_last_used_that_fit(voice, tmp_path):
    size = VoiceCache(tmp_path / "one").keep("a", voice).path.stat().st_size
    cache = VoiceCache(tmp_path / "voices", max_bytes=3 * size)
    keep_dated(cache, voice, "abc")
    assert [path.stem for path in cache.files()] == ["c", "b", "a"]
    cache.find("a")  # now the last used
    cache.keep("d", voice)
    assert {path.stem for path in cache.files()} == {"a", "c", "d"}
    small = VoiceCache(tmp_path / "voices", max_bytes=1)
    small.keep("e", voice)
    assert [path.stem for path in small.files()] == ["e"]


def test_cache_counts_nothing_but_voices(voice, tmp_path):
    cache = VoiceCache(tmp_path)
    (tmp_path / "other.txt").write_text("not of the cache")
    keep_dated(cache, voice, "ab")
    assert cache.clear() == 2
    assert cache.clear() == 0
    assert (tmp_path / "other.txt").exists()


def test_cache_takes_a_damaged_file_for_none(voice, tmp_path):
    cache = VoiceCache(tmp_path)
    cache.keep("a", voice).path.write_bytes(b"damaged")
    assert cache.find("a") is None
    assert cache.keep("a", voice).card.name == "Ann"
    assert cache.find("a") is not None


def test_cache_that_cannot_be_written_warns_and_gives_the_voice(voice, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = VoiceCache(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        assert cache.keep("a", voice) is voice
    assert "is not kept" in caplog.text
    assert cache.find("a") is None
    assert cache.files() == []


def test_voice_key_depends_on_all_that_a_voice_depends_on(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"1")
    (tmp_path / "b.wav").write_bytes(b"2")
    ones, two = np.ones(5, np.float32), np.full(5, 2, np.float32)
    first = voice_key([ones, two], [tmp_path / "a.wav"], model="m", steps=2)
    assert first == voice_key([ones, two], [str(tmp_path / "a.wav")], steps=2, model="m")
    (tmp_path / "copy.wav").write_bytes(b"1")
    assert first == voice_key([ones, two], [tmp_path / "copy.wav"], model="m", steps=2)
    others = [
        voice_key([two, ones], [tmp_path / "a.wav"], model="m", steps=2),
        voice_key([ones], [two, tmp_path / "a.wav"], model="m", steps=2),
        voice_key([ones, two, two], [tmp_path / "a.wav"], model="m", steps=2),
        voice_key([ones, two], [tmp_path / "b.wav"], model="m", steps=2),
        voice_key([ones, two], [], model="m", steps=2),
        voice_key([ones, two], [tmp_path / "a.wav"], model="n", steps=2),
        voice_key([ones, two], [tmp_path / "a.wav"], model="m", steps=3),
    ]
    assert len({first, *others}) == 1 + len(others)


LEARN = """
import sys, torch
from tests.corpus import TINY
from tests.synthetic import speak
from vcvae.convert.converter import Converter
from vcvae.convert import voice_cache
from vcvae.convert.voice_cache import VoiceCache
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.vocoder import GriffinLim
torch.manual_seed(0)
converter = Converter(DisentanglingVAE(DisentanglingConfig(**TINY)).eval(), GriffinLim(iterations=1))
options = {"sources": [speak("uao", seconds=0.5)], "cache": VoiceCache(sys.argv[1])}
print("ready", flush=True)
sys.stdin.readline()
for seed in range(4):
    voice = converter.learn(speak("aiu", seconds=0.5), steps=1, seed=seed, **options)
    assert voice.path and voice.learned, voice.path
"""


@pytest.mark.slow
def test_cache_is_shared_by_processes_that_learn_the_same_voices_at_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LEARN, str(tmp_path / "voices")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    files = VoiceCache(tmp_path / "voices").files()
    assert sorted(files) == sorted((tmp_path / "voices").iterdir())
    assert len(files) == 4
    assert all(Voice.load(file).learned for file in files)


def test_voice_key_reads_the_first_part_of_a_source_of_hours(tmp_path, monkeypatch):
    monkeypatch.setattr(voice_cache, "DIGEST_BLOCK", 4)

    def key(content):
        (tmp_path / "a.wav").write_bytes(content)
        return voice_key([], [tmp_path / "a.wav"])

    part = bytes(range(256))
    whole = key(part + b"aaaa")
    assert key(part + b"bbbb") == whole
    assert len({whole, key(part), key(part + b"aaa"), key(part[::-1] + b"aaaa"), key(part[:-1] + b"0")}) == 5
