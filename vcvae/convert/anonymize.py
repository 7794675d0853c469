"""Anonymization: each speaker, or each utterance, is converted to a voice that nobody has."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vcvae.convert.converter import Converter
from vcvae.convert.draw import APART, DrawnVoice
from vcvae.convert.encoder import Recording, average_voice
from vcvae.documents import read_bytes
from vcvae.errors import VcvaeError
from vcvae.models.conversion.voice import Voice
from vcvae.progress import Progress, no_progress
from vcvae.torch_state import own_torch_state

KEY_BYTES = 32  # of a key that is made here
MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 2**20
SOURCE_SIMILARITY = 0.4  # cosine of centred embeddings with the source speaker, below which a drawn voice is not near
CANDIDATES = 3  # drawn voices that are far enough, of which the least similar one is taken
ATTEMPTS = 20  # drawn voices, until there are so many
GUIDANCE = 0.4  # more than other conversions have: less of the source's voice is left, and a little less of its F0
SOURCE_WEIGHT = 0.5  # where voices are refined, for the same reason; with 1 more words and naturalness are lost
SPEAKER_RECORDINGS = 3  # recordings of a speaker, from whose first half minutes their embedding is taken


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


@dataclass(frozen=True)
class _Source:
    """A speaker: the centred embedding, (speaker_latent,), and the frozen network's statistics, less their mean."""

    embedding: Tensor
    statistics: Tensor


@dataclass(frozen=True)
class _Candidate:
    """A voice that is far from the source.

    Attributes:
        voice: drawn.
        seed: by which it was.
        nearest: the largest cosine with the voice of another name.
        similarity: to the source, by the frozen network.
    """

    voice: Voice
    seed: int
    nearest: float
    similarity: float


class Anonymizer:
    """Gives each name, of a speaker or an utterance, a drawn voice.

    The seed of the voice is HMAC-SHA256 of the name (RFC 2104): with the same key a speaker gets the same voice in
    every call; without the key nobody can tell which voice a speaker would get.
    """

    def __init__(
        self, converter: Converter, *, key: bytes | None = None, apart: bool = True, refine_steps: int = 0
    ) -> None:
        """
        Args:
            converter: with whose model and prior the voices are drawn.
            key: by default, a random one that is kept nowhere.
            apart: keep the voices, each new one far from those before and the least similar to the source of several;
                without it, as for a voice for each utterance, they depend on nothing but the key and the source.
            refine_steps: in which a voice is refined to each recording before it is converted (`Converter.refine`).
        """
        self.converter = converter
        self.seeds: dict[str, int] = {}  # of each name's voice, by which `Converter.draw` gives it again
        self._key = key or secrets.token_bytes(KEY_BYTES)
        self._apart = apart
        self._refine_steps = refine_steps
        self._voices: dict[str, Voice] = {}

    def voice(self, name: str, recordings: Iterable[Recording]) -> Voice:
        """The voice of a name: never near that of the recordings, by the name's speaker.

        Conversions stay somewhat more similar to their source than to other speakers. So of `CANDIDATES` voices, each
        far by the embeddings, the one is taken that a frozen speaker network finds least similar to the source. Not
        where each utterance has a voice: those of one speaker would be of one kind, which links them. Of hundreds of
        speakers some have voices that are not `APART`: then it is the voice that is farthest from those of all others.

        Raises:
            VcvaeError: none of `ATTEMPTS` drawn voices is far from the source.
        """
        if name in self._voices:
            return self._voices[name]
        source = self._source(recordings)
        count = CANDIDATES if source and self._apart else 1
        candidates: list[_Candidate] = []
        error = VcvaeError(f"{name}: none of {ATTEMPTS} drawn voices is far enough from the source; give another key.")
        for attempt in range(ATTEMPTS):
            seed = self._seed(name, attempt)
            try:
                drawn = self._draw(seed)
            except VcvaeError as failure:
                error = failure
                continue
            embedding = self._embedding(drawn.voice)
            if source and float(embedding @ source.embedding) >= SOURCE_SIMILARITY:
                continue
            similarity = float(drawn.statistics @ source.statistics) if source else 0.0
            nearest = max((float(embedding @ self._embedding(other)) for other in self._voices.values()), default=-1.0)
            candidates.append(_Candidate(drawn.voice, seed, nearest, similarity))
            if sum(candidate.nearest < APART for candidate in candidates) == count:
                break
        if not candidates:
            raise error
        chosen = min(candidates, key=lambda candidate: (max(candidate.nearest, APART), candidate.similarity))
        self.seeds[name] = chosen.seed
        if self._apart:
            self._voices[name] = chosen.voice
        return chosen.voice

    def convert_file(
        self,
        source: str | Path,
        name: str,
        recordings: Iterable[Recording],
        output: str | Path,
        *,
        force: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        """A recording in the voice of its name, by `voice`.

        It has more guidance away from the source's own voice than other conversions in one pass. A voice that is
        refined has none, as all that have learned something, but the speaker loss moves it away.

        Raises:
            VcvaeError: no voice was found, a source that cannot be used, or an output that cannot be written.
        """
        voice = self.voice(name, recordings)
        if self._refine_steps:
            voice = self.converter.refine(
                voice, source, steps=self._refine_steps, source_weight=SOURCE_WEIGHT, progress=progress
            )
        self.converter.convert_file(source, voice, output, guidance=GUIDANCE, force=force, progress=progress)

    @own_torch_state()
    def _draw(self, seed: int) -> DrawnVoice:
        return self.converter.drawing.draw(self.converter.prior, seed=seed)

    def _seed(self, name: str, attempt: int) -> int:
        digest = hmac.digest(self._key, f"{attempt} {name}".encode(), hashlib.sha256)
        return int.from_bytes(digest[:8], "big") >> 1  # 63 bits, as of any seed

    def _embedding(self, voice: Voice) -> Tensor:
        """The centred speaker embedding, (speaker_latent,)."""
        return self.converter.model.centred_embedding(voice)[0]

    @own_torch_state()
    @torch.inference_mode()
    def _source(self, recordings: Iterable[Recording]) -> _Source | None:
        """The speaker of recordings; None where none can be used."""
        references = self.converter.load_sources(list(recordings)[:SPEAKER_RECORDINGS])
        if not references:
            return None
        embedding = self._embedding(average_voice(self.converter.model, references))
        return _Source(embedding, self.converter.drawing.centred_statistics(references))
