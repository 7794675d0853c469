"""Recordings to mels and latents: what the encoders of a conversion model compute from audio."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vcvae import audio
from vcvae.arrays import checked_rate, is_path, is_samples
from vcvae.convert import chunks
from vcvae.environment import find_device
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig, MelSpectrogram, bandwidth, valid_band_mask
from vcvae.models import load_model
from vcvae.models.conversion.asr_features import asr_features, check_recognizer
from vcvae.models.conversion.config import REDUCTION
from vcvae.models.conversion.reference import MAX_REFERENCE_FRAMES
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice, VoiceCard
from vcvae.models.frozen.content import ContentNet
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet
from vcvae.models.hub import fingerprint
from vcvae.pretrained import CONTENT, SENTENCES, SPEAKER_SIMILARITY
from vcvae.progress import Progress, no_progress, report_blocks
from vcvae.torch_state import own_torch_state

MAX_MINUTES = 30.0  # of a target's speech that are used; the rest is not read
SAMPLES, SAMPLE_FRAMES = 4, 256  # sentences of the package that are converted to a voice, mel frames of each: 3 s
ASR_WINDOW, ASR_OVERLAP = 512, 88  # mel frames between two windows of ASR features, 5.9 s, and those they share
MIN_VOICED = 0.05  # of the frames of speech; of half an hour of read speech in pieces of 3 s, .09 were the least
MAX_SOURCES = 32  # recordings that fine-tuning draws from; in a few hundred steps, more would rarely be drawn

# Embeddings of pieces of 0.1, 0.3, 1 and 2 s have cosines of .42, .66, .87 and .95 with that of the whole recording
# (medians of 128 pieces; .44 with those of other recordings).
MIN_VOICE_SECONDS = 0.3
FEW_VOICE_SECONDS = 2.0

Recording = str | Path | ArrayLike  # a path, or samples (samples,)

_log = logging.getLogger("vcvae")


@dataclass(frozen=True)
class ReferenceMel:
    """An utterance as the encoders take it.

    `mel` is its ln-mel (1, n_mels, frames); `valid_bands` (1, n_mels) is 1 for the bands that the recording's
    bandwidth covers.
    """

    mel: Tensor
    valid_bands: Tensor


def choose_sources(recordings: Iterable[Recording] = ()) -> list[Recording]:
    """The first `MAX_SOURCES` recordings; where there are none, the sentences that come with the package."""
    return list(islice(recordings, MAX_SOURCES)) or audio.find(SENTENCES)


class Encoder:
    """Computes mels, latents and voices of recordings.

    Example:
        >>> import numpy as np
        >>> from vcvae.models.conversion.config import DisentanglingConfig
        >>> noise = np.random.default_rng(0).standard_normal(22050).astype(np.float32) / 10
        >>> Encoder(DisentanglingVAE(DisentanglingConfig(fast_channels=16))).content(noise).shape
        (64, 22)
    """

    @own_torch_state()
    def __init__(self, model: DisentanglingVAE, *, device: str = "cpu") -> None:
        """
        Args:
            model: the conversion model; it is moved to the device.
            device: `auto`, `cpu`, `cuda` or `mps`.
        """
        self.mel_config = model.config.mel
        self.device = find_device(device)
        self.spectrogram = MelSpectrogram(self.mel_config).to(self.device)
        self.model = model.to(self.device).eval()

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None, *, device: str = "auto") -> Encoder:
        """With the model of a folder or Hugging Face repository; by default, the released one."""
        return cls(load_model(model), device=device)

    @cached_property
    def fingerprint(self) -> str:
        """That of the model; a voice that was made with another model has another."""
        return fingerprint(self.model)

    @cached_property
    def speaker_net(self) -> SpeakerSimilarityNet | None:
        """The released speaker network, for a model that takes its statistics; else None.

        Raises:
            VcvaeError: the model takes those of another network.
        """
        taken = self.model.config.speaker_statistics
        if not taken:
            return None
        net = SpeakerSimilarityNet.from_pretrained(SPEAKER_SIMILARITY)
        net.config.mel.require_equal(self.mel_config, ours="the speaker network", theirs="the model")
        if net.outputs != taken:
            raise VcvaeError(f"the model takes {taken} speaker statistics; the released network gives {net.outputs}.")
        return net.to(self.device).eval().requires_grad_(False)

    @cached_property
    def content_net(self) -> ContentNet | None:
        """The released recognizer, for a model that takes its features; else None.

        Raises:
            VcvaeError: the model takes those of another recognizer.
        """
        if not self.model.config.asr_channels:
            return None
        net = ContentNet.from_pretrained(CONTENT)
        check_recognizer(net, self.model.config)
        return net.to(self.device).eval().requires_grad_(False)

    def asr_features(self, samples: np.ndarray) -> Tensor | None:
        """Samples (samples,) → what the content encoder takes, (1, ceil(frames / 4), 2 · asr_channels).

        None for a model that takes none. They are computed of windows: the recognizer was trained on short utterances.
        """
        if self.content_net is None:
            return None
        config = self.mel_config
        windows = chunks.split_pieces([samples], ASR_WINDOW * config.hop, ASR_OVERLAP * config.hop)
        features = (
            (asr_features(self.content_net, torch.from_numpy(window).to(self.device)[None], config).mT, is_last)
            for window, is_last in windows
        )
        pieces = chunks.cut_pieces(features, ASR_WINDOW // REDUCTION, ASR_OVERLAP // REDUCTION)
        return torch.cat(list(pieces), dim=2).mT

    @own_torch_state()
    def voice(
        self, targets: Iterable[Recording], *, sample_rate: int | None = None, progress: Progress = no_progress
    ) -> Voice:
        """The voice of one speaker's utterances, in one pass: nothing is learned.

        `progress` is called while they are read and encoded.

        Raises:
            VcvaeError: a recording that cannot be used, or no recording.
        """
        references = self.load_references(targets, sample_rate=sample_rate, progress=progress)
        voice = self._voice(references, progress=progress)
        warn_of_little_speech(voice.card)
        return voice

    @torch.inference_mode(False)  # fine-tuning takes gradients of what is computed from it
    @torch.no_grad()
    def _voice(
        self,
        references: Sequence[ReferenceMel],
        *,
        seed: int = 0,
        card: VoiceCard | None = None,
        progress: Progress = no_progress,
    ) -> Voice:
        card = card or VoiceCard()
        card = replace(card, seconds=self._seconds_of_speech(references, card.name))
        voice = average_voice(self.model, references, speaker_net=self.speaker_net, seed=seed, progress=progress)
        return replace(voice, fingerprint=self.fingerprint, card=card)

    def _seconds_of_speech(self, references: Sequence[ReferenceMel], name: str = "") -> float:
        """The length of a speaker's utterances; a VcvaeError where it is too little for a voice."""
        seconds = sum(reference.mel.shape[2] for reference in references) / self.mel_config.frame_rate
        if seconds < MIN_VOICE_SECONDS:
            raise VcvaeError(
                f"{name or 'the speaker'}: {seconds:.2f} s of speech is too little for a voice; give at least "
                f"{MIN_VOICE_SECONDS} s, better 10 s."
            )
        return seconds

    @own_torch_state()
    def content(self, source: Recording, *, sample_rate: int | None = None) -> np.ndarray:
        """The content latent (the posterior's mean), (content_latent, ceil(frames / 4)) float32."""
        return np.concatenate(list(self.content_pieces(source, sample_rate=sample_rate)), axis=1)

    @torch.inference_mode()
    def content_pieces(
        self, source: Recording, *, sample_rate: int | None = None, progress: Progress = no_progress
    ) -> Iterator[np.ndarray]:
        """`content`, piece by piece: what conversion gets of a long recording, too."""

        def encode(samples: np.ndarray) -> Tensor:
            return self.model.content(self._mel(samples), asr_features=self.asr_features(samples)).mean

        yield from self._encode_pieces(source, sample_rate, encode, REDUCTION, progress)

    @own_torch_state()
    def speaker(
        self, source: Recording, *, sample_rate: int | None = None, progress: Progress = no_progress
    ) -> np.ndarray:
        """The speaker embedding, (speaker_latent,) float32 of unit length: a dot product of two is a similarity."""
        references = self.load_references([source], sample_rate=sample_rate, progress=progress)
        self._seconds_of_speech(references)
        with torch.inference_mode():
            embedding = self.model.centred_embedding(average_voice(self.model, references, progress=progress))
        return embedding[0].cpu().numpy()

    @own_torch_state()
    def mel(self, source: Recording, *, sample_rate: int | None = None) -> np.ndarray:
        """The ln-mel that is the input of all encoders, (n_mels, ceil(samples / hop)) float32."""
        return np.concatenate(list(self.mel_pieces(source, sample_rate=sample_rate)), axis=1)

    @torch.inference_mode()
    def mel_pieces(
        self, source: Recording, *, sample_rate: int | None = None, progress: Progress = no_progress
    ) -> Iterator[np.ndarray]:
        """`mel`, piece by piece."""
        yield from self._encode_pieces(source, sample_rate, self._mel, 1, progress)

    def _encode_pieces(
        self,
        source: Recording,
        sample_rate: int | None,
        encode: Callable[[np.ndarray], Tensor],
        reduction: int,
        progress: Progress,
    ) -> Iterator[np.ndarray]:
        """Samples (samples,), encoded piece by piece to (values, ceil(frames / reduction))."""
        if is_path(source):
            blocks = recording_blocks(source, self.mel_config, progress=progress, description="encoding")
        else:
            blocks = iter([self._load(source, sample_rate)])
        hop = self.mel_config.hop
        pieces = chunks.split_pieces(blocks, chunks.PIECE_FRAMES * hop, chunks.OVERLAP_FRAMES * hop)
        encoded = ((encode(samples)[0].cpu().numpy(), is_last) for samples, is_last in pieces)
        yield from chunks.cut_pieces(encoded, chunks.PIECE_FRAMES // reduction, chunks.OVERLAP_FRAMES // reduction)

    def load_references(
        self, targets: Iterable[Recording], *, sample_rate: int | None = None, progress: Progress = no_progress
    ) -> list[ReferenceMel]:
        """The mels of a speaker's utterances, without silence at their ends, up to `MAX_MINUTES`.

        Raises:
            VcvaeError: a recording that cannot be used, or no recording.
        """
        return self._references(self.load_targets(targets, sample_rate=sample_rate, progress=progress))

    def load_targets(
        self,
        targets: Recording | Iterable[Recording],
        *,
        sample_rate: int | None = None,
        progress: Progress = no_progress,
    ) -> list[np.ndarray]:
        """The samples of a speaker's recordings, without silence at their ends, up to `MAX_MINUTES`.

        Raises:
            VcvaeError: a recording that cannot be used, or no recording.
        """
        targets = [targets] if is_path(targets) or is_samples(targets) else targets
        rate = self.mel_config.sample_rate
        left = round(MAX_MINUTES * 60 * rate)
        loaded = []

        def report(done: int, total: int | None, description: str) -> None:
            before = 60 * MAX_MINUTES - left / rate
            # Of several recordings, how many seconds they have is not known, but no more than these are read.
            progress(int(before + done), int(60 * MAX_MINUTES) if before else total, description)

        for target in targets:
            if left < self.mel_config.minimum_samples:
                break
            seconds = left / rate
            loaded.append(self._load(target, sample_rate, trim=True, max_seconds=seconds, progress=report))
            left -= len(loaded[-1])
        if not loaded:
            raise VcvaeError("no target utterance; give at least one with --target.")
        return loaded

    def load_sources(self, sources: Iterable[Recording] = (), *, sample_rate: int | None = None) -> list[ReferenceMel]:
        """The mels of recordings that fine-tuning converts: of each the first half minute, without silence at its ends.

        Only the first `MAX_SOURCES` are used; without any, the sentences that come with the package. A recording that
        cannot be used is left out: its own conversion reports why.
        """
        rate = self.mel_config.sample_rate
        max_samples = chunks.PIECE_FRAMES * self.mel_config.hop
        references = []
        for source in choose_sources(sources):
            with suppress(VcvaeError):
                if is_samples(source):
                    start = self._load(source, sample_rate)[:max_samples]
                else:
                    seconds = max_samples / rate
                    blocks = audio.blocks(source, rate, seconds, max_seconds=seconds)
                    start = next(blocks, np.empty(0, np.float32))
                references += self.load_references([start], sample_rate=rate)
        return references

    @cached_property
    def sample_mels(self) -> list[Tensor]:
        """The starts of some sentences of the package, which show how a voice sounds, ln-mels (1, n_mels, frames)."""
        sentences = audio.find(SENTENCES)
        chosen = sentences[:: max(1, len(sentences) // SAMPLES)][:SAMPLES]
        return [sentence.mel[..., :SAMPLE_FRAMES] for sentence in self.load_sources(chosen)]

    def _references(self, recordings: Iterable[np.ndarray]) -> list[ReferenceMel]:
        """The mels of a speaker's recordings, samples (samples,) each, without pieces in which nobody speaks."""
        return with_speech(self.model, [mel for samples in recordings for mel in self._reference_mels(samples)])

    @torch.inference_mode(False)  # fine-tuning takes gradients of what is computed from them
    def _reference_mels(self, samples: np.ndarray) -> list[ReferenceMel]:
        """Samples (samples,) → their mel, in pieces of half a minute, so that memory stays bounded in fine-tuning."""
        config = self.mel_config
        valid_bands = valid_band_mask(
            torch.tensor([bandwidth(samples, config.sample_rate)], device=self.device), config
        )
        pieces = np.array_split(samples, max(1, len(samples) // (chunks.PIECE_FRAMES * config.hop)))
        return [ReferenceMel(self._mel(piece), valid_bands) for piece in pieces]

    def _mel(self, samples: np.ndarray) -> Tensor:
        return padded_mel(self.spectrogram, samples, device=self.device)

    def _load(
        self,
        recording: Recording,
        sample_rate: int | None,
        *,
        trim: bool = False,
        max_seconds: float = math.inf,
        progress: Progress = no_progress,
    ) -> np.ndarray:
        """Samples (samples,) at the model's rate, of the first `max_seconds`."""
        rate = self.mel_config.sample_rate
        min_samples = self.mel_config.minimum_samples
        given_rate = rate if sample_rate is None else checked_rate(sample_rate)
        if is_path(recording):
            return audio.read(
                recording, rate, trim=trim, min_samples=min_samples, max_seconds=max_seconds, progress=progress
            )
        samples = audio.from_array(recording, given_rate, rate, trim=trim)
        if len(samples) < min_samples:
            raise too_short("the array", len(samples), self.mel_config)
        return samples[: round(min(max_seconds * rate, len(samples)))]


def warn_of_little_speech(card: VoiceCard) -> None:
    """Log a warning where a voice is made from too little speech to be like the speaker's."""
    if card.seconds < FEW_VOICE_SECONDS:
        name = card.name or "the speaker"
        _log.warning("%s: %.1f s of speech is little for a voice; give 10 s or more.", name, card.seconds)


@torch.no_grad()
def with_speech(model: DisentanglingVAE, references: Sequence[ReferenceMel]) -> list[ReferenceMel]:
    """Those in which somebody speaks: `MIN_VOICED` of the frames or more are voiced. All where none is: a whisper.

    Each is normalized to one level, so that of a pause the noise would be taken for the speaker.
    """
    spoken = [r for r in references if (model.f0(r.mel).voicing > 0.5).float().mean() >= MIN_VOICED]
    return spoken or list(references)


def average_voice(
    model: DisentanglingVAE,
    references: Sequence[ReferenceMel],
    *,
    speaker_net: SpeakerSimilarityNet | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Voice:
    """The voice of one speaker's utterances: their frames as the reference, all else averaged.

    The reference has at most `MAX_REFERENCE_FRAMES`, those of random utterances where there are more; embedding, F0
    statistics and valid bands are of all. `speaker_net` gives a model the statistics that it takes; `progress` is
    called before each utterance.
    """
    frames = [-(-reference.mel.shape[2] // REDUCTION) for reference in references]
    order = list(range(len(references)))
    if sum(frames) > MAX_REFERENCE_FRAMES:
        random.Random(seed).shuffle(order)
    voices = []
    left = MAX_REFERENCE_FRAMES
    for done, index in enumerate(order):
        progress(done, len(order), "encoding the target")
        mel, valid_bands = references[index].mel, references[index].valid_bands
        statistics = speaker_net(mel) if speaker_net else None
        voice = model.voice(mel, valid_bands=valid_bands, statistics=statistics)
        voices.append(replace(voice, reference=voice.reference.with_frames(slice(left))))
        left = max(0, left - frames[index])
    return Voice.join(voices).average()


def recording_blocks(
    path: str | Path, config: MelConfig, *, progress: Progress = no_progress, description: str = "reading"
) -> Iterator[np.ndarray]:
    """A recording's samples at the mel's rate, in blocks of `chunks.PIECE_FRAMES`.

    Args:
        path: of the recording.
        config: of the mel.
        progress: called before each block with the seconds of the recording, and what is done with it.
        description: of that.

    Raises:
        VcvaeError: a file that cannot be used, or that is too short for a mel.
    """
    is_first = True
    seconds = chunks.PIECE_FRAMES * config.hop / config.sample_rate
    blocks = audio.blocks(path, config.sample_rate, seconds, progress=progress)
    for block in report_blocks(blocks, config.sample_rate, audio.duration(path), progress, description):
        if is_first and len(block) < config.minimum_samples:
            raise too_short(path, len(block), config)
        is_first = False
        yield block
    if is_first:
        raise too_short(path, 0, config)


def too_short(name: str | Path, samples: int, config: MelConfig) -> VcvaeError:
    """The error that a recording has no mel."""
    rate = config.sample_rate
    return VcvaeError(
        f"{name}: {samples / rate:.4f} s is too short; give at least {config.minimum_samples / rate:.4f} s."
    )


def padded_mel(spectrogram: MelSpectrogram, samples: np.ndarray, *, device: torch.device | None = None) -> Tensor:
    """Samples (samples,), zero-padded to whole hops → ln-mel (1, n_mels, ceil(samples / hop))."""
    padded = np.pad(samples, (0, -len(samples) % spectrogram.config.hop))
    return spectrogram(torch.from_numpy(padded).to(device)[None])
