"""Anonymization: each speaker, or each utterance, is converted to a voice that nobody has."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from vcvae.convert.converter import Converter
from vcvae.convert.draw import APART
from vcvae.convert.encoder import Recording, average_voice
from vcvae.documents import read_bytes
from vcvae.errors import VcvaeError
from vcvae.models.conversion.voice import Voice
from vcvae.torch_state import own_torch_state

KEY_BYTES = 32  # of a key that is made here
MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 2**20
SOURCE_SIMILARITY = 0.4  # cosine of centred embeddings with the source speaker, below which a drawn voice is not near
ATTEMPTS = 50  # drawn voices, until one is far enough
SOURCES = 3  # recordings of a speaker, from whose first half minutes their embedding is taken


def read_key(path: str | Path) -> bytes:
    """The key in a file, all of its bytes.

    Raises:
        VcvaeError: it cannot be read, or has fewer than `MIN_KEY_BYTES` or more than `MAX_KEY_BYTES`.
    """
    advice = f"make a key: head -c {KEY_BYTES} /dev/urandom > {path}"
    key = read_bytes(path, MAX_KEY_BYTES, advice=advice)
    if len(key) < MIN_KEY_BYTES:
        raise VcvaeError(f"{path}: {len(key)} bytes can be guessed, and a key needs {MIN_KEY_BYTES}; {advice}")
    return key


class Anonymizer:
    """Gives each name, of a speaker or an utterance, a drawn voice.

    The seed of the voice is HMAC-SHA256 of the name (RFC 2104): with the same key a speaker gets the same voice in
    every call; without the key nobody can tell which voice a speaker would get.
    """

    def __init__(self, converter: Converter, *, key: bytes | None = None, apart: bool = True) -> None:
        """
        Args:
            converter: with whose model and prior the voices are drawn.
            key: by default, a random one that is kept nowhere.
            apart: keep the voices, and each new one far from those before; without it, as for very many utterances,
                they depend on nothing but the key and the source.
        """
        self.converter = converter
        self.seeds: dict[str, int] = {}  # of each name's voice, by which `Converter.draw` gives it again
        self._key = key or secrets.token_bytes(KEY_BYTES)
        self._apart = apart
        self._voices: dict[str, Voice] = {}

    def voice(self, name: str, recordings: Iterable[Recording]) -> Voice:
        """The voice of a name: never near that of the recordings, by the name's speaker.

        Raises:
            VcvaeError: none was found.
        """
        if name in self._voices:
            return self._voices[name]
        source = self._source_embedding(recordings)
        others = [self._embedding(voice) for voice in self._voices.values()]
        for attempt in range(ATTEMPTS):
            seed = self._seed(name, attempt)
            try:
                voice = self.converter.draw(seed=seed)
            except VcvaeError:
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            embedding = self._embedding(voice)
            is_far = source is None or float(embedding @ source) < SOURCE_SIMILARITY
            if is_far and all(float(embedding @ other) < APART for other in others):
                self.seeds[name] = seed
                if self._apart:
                    self._voices[name] = voice
                return voice
        raise VcvaeError(f"{name}: none of {ATTEMPTS} drawn voices is far enough from the source; give another key.")

    def _seed(self, name: str, attempt: int) -> int:
        digest = hmac.digest(self._key, f"{attempt} {name}".encode(), hashlib.sha256)
        return int.from_bytes(digest[:8], "big") >> 1  # 63 bits, as of any seed

    def _embedding(self, voice: Voice) -> Tensor:
        """The centred speaker embedding, (speaker_latent,)."""
        return self.converter.model.centred_embedding(voice)[0]

    @own_torch_state()
    @torch.inference_mode()
    def _source_embedding(self, recordings: Iterable[Recording]) -> Tensor | None:
        """The centred speaker embedding of a source, (speaker_latent,); None where no recording can be used."""
        references = self.converter.load_sources(list(recordings)[:SOURCES])
        return self._embedding(average_voice(self.converter.model, references)) if references else None
