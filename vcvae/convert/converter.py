"""Conversion of waveforms: source audio → mel → content, f0; target audio → mel → voice; decoder → vocoder → audio.

A long source runs in overlapping pieces, so memory does not grow with its length. Pieces are joined where the overlap
is quietest: vocoders choose phases anew in each piece, and in a pause a change of phase is not references.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae import audio
from vcvae.convert.finetune import ReferenceMel, finetune
from vcvae.convert.losses import ConversionLosses, load_losses
from vcvae.defaults import ADAPT_STEPS
from vcvae.environment import find_device
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour, F0Statistics
from vcvae.features.mel import MelSpectrogram, bandwidth, level, valid_band_mask
from vcvae.models import load_model
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.vocoder import Vocoder, load_vocoder

PIECE = 2560  # frames between the starts of two pieces: 29.7 s
OVERLAP = 176  # frames that two pieces share: 2 s; convolutions reach less than 0.7 s to either side
MAX_SOURCES = 32  # recordings at most: more of them in as few steps would seldom be references
FADE = 2  # frames of the cross-fade: 23 ms
PAUSE_THRESHOLD = 3.5  # nepers, 30 dB, below its mean level: where a source is quieter, it pauses
SMOOTHING_FRAMES = 5  # frames over which that is references: 58 ms

Source = str | Path | np.ndarray


class Encoder:
    """Takes recordings to latents.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).standard_normal(22050).astype(np.float32) / 10
        >>> Encoder(DisentanglingVAE()).content(noise).shape
        (64, 22)
    """

    def __init__(self, model: DisentanglingVAE, *, device: str = "cpu") -> None:
        self.mel_config = model.config.mel
        self.device = find_device(device)
        self.spectrogram = MelSpectrogram(self.mel_config).to(self.device)
        self.model = model.to(self.device).eval()

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None, *, device: str = "auto") -> Encoder:
        """With the model of a folder or Hugging Face repository; the one that ships, where none is named."""
        return cls(load_model(model), device=device)

    @torch.inference_mode()
    def voice(self, targets: Iterable[Source], *, sample_rate: int | None = None) -> Voice:
        """The voice that utterances of one speaker share: all their frames, and the average of the rest.

        Raises:
            VcvaeError: a file that cannot be used, or no file.
        """
        return self._voice(self.load_references(targets, sample_rate=sample_rate))

    def _voice(self, references: list[ReferenceMel]) -> Voice:
        return Voice.join(self.model.voice(mel, valid_bands=valid_bands) for mel, valid_bands in references).average()

    @torch.inference_mode(False)
    def load_references(self, targets: Iterable[Source], *, sample_rate: int | None = None) -> list[ReferenceMel]:
        """Log-mels (1, n_mels, frames) of a speaker's utterances, and the bands (1, n_mels) that each one fills.

        Raises:
            VcvaeError: a file that cannot be used, or no file.
        """
        config, references = self.mel_config, []
        for target in targets:
            samples = self._load(target, sample_rate, trim=True)
            valid_bands = valid_band_mask(
                torch.tensor([bandwidth(samples, config.sample_rate)], device=self.device), config
            )
            # What is learned from them is an average over time; pieces keep the memory of a long target bounded.
            pieces = np.array_split(samples, max(1, len(samples) // (PIECE * config.hop)))
            references += [(self._mel(piece), valid_bands) for piece in pieces]
        if not references:
            raise VcvaeError("no target utterance; give at least one with --target.")
        return references

    def speaker(self, source: Source, *, sample_rate: int | None = None) -> np.ndarray:
        """Who speaks: (speaker_latent,) float32 of unit length, so that a dot product is a similarity."""
        latent = self.voice([source], sample_rate=sample_rate).reference.embedding[0]
        return self.model.speaker.centred(latent).cpu().numpy()

    def mel(self, source: Source, *, sample_rate: int | None = None) -> np.ndarray:
        """The ln-mel that everything else hears: (n_mels, ceil(samples / hop)) float32."""
        return self._mel(self._load(source, sample_rate))[0].cpu().numpy()

    @torch.inference_mode()
    def content(self, source: Source, *, sample_rate: int | None = None) -> np.ndarray:
        """What is said: the posterior's mean, (content_latent, ceil(frames / 4)) float32."""
        return self.model.content(self._mel(self._load(source, sample_rate))).mean[0].cpu().numpy()

    def _mel(self, samples: np.ndarray) -> Tensor:
        """Samples (samples,) → log-mel (1, n_mels, ceil(samples / hop))."""
        samples = np.pad(samples, (0, -len(samples) % self.mel_config.hop))
        return self.spectrogram(torch.from_numpy(samples).to(self.device)[None])

    def _load(self, source: Source, sample_rate: int | None, *, trim: bool = False) -> np.ndarray:
        rate, least = self.mel_config.sample_rate, self.mel_config.minimum_samples
        if not isinstance(source, np.ndarray):
            return audio.read(source, rate, trim=trim, min_samples=least)
        samples = audio.from_array(source, sample_rate or rate, rate, trim=trim)
        if len(samples) < least:
            raise self._too_short("the array", len(samples))
        return samples

    def _too_short(self, name: str | Path, samples: int) -> VcvaeError:
        rate, least = self.mel_config.sample_rate, self.mel_config.minimum_samples
        return VcvaeError(f"{name}: {samples / rate:.4f} s is too short; give at least {least / rate:.4f} s.")


class Converter(Encoder):
    """Converts recordings to other voices.

    Example:
        >>> import numpy as np
        >>> from vcvae.vocoder import GriffinLim
        >>> converter = Converter(DisentanglingVAE(), GriffinLim())
        >>> noise = np.random.default_rng(0).standard_normal(22050).astype(np.float32) / 10
        >>> samples, sample_rate = converter.convert(noise, noise)
        >>> samples.shape
        (22050,)
    """

    def __init__(
        self, model: DisentanglingVAE, vocoder: Vocoder, losses: ConversionLosses | None = None, *, device: str = "cpu"
    ) -> None:
        """The losses, where there are some, judge conversions to voices that are learned.

        Raises:
            VcvaeError: they are made for different mels.
        """
        mel = model.config.mel
        mel.require_equal(vocoder.mel_config, ours="the model", theirs="the vocoder")
        super().__init__(model, device=device)
        self.vocoder = vocoder.for_predicted_mels().to(self.device).eval()
        if losses:
            mel.require_equal(losses.mel_config, ours="the model", theirs="the losses")
            losses = losses.to(self.device)
        self.losses = losses

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, *, vocoder: str | None = None, device: str = "auto", seed: int = 0
    ) -> Converter:
        """A converter with a saved model and a vocoder; those that ship, where none is named.

        The losses are those that ship, for models of the mel that they hear; others learn voices without them.

        Args:
            model: a folder or a Hugging Face repository id.
            vocoder: as `load_vocoder` knows it: `neural`, `griffin-lim`, `hifigan:PATH`, …
            device: `auto`, `cpu`, `cuda` or `mps`.
            seed: of the vocoder's first phases, where it draws them.

        Raises:
            VcvaeError: something is not found, or the parts do not fit.
        """
        loaded = load_model(model)
        spoken = load_vocoder(vocoder, loaded.config.mel, seed=seed)
        return cls(loaded, spoken, load_losses(loaded.config.mel), device=device)

    def adapted(
        self,
        targets: Iterable[Source],
        *,
        sources: Iterable[Source] = (),
        sample_rate: int | None = None,
        steps: int = ADAPT_STEPS,
    ) -> tuple[Converter, Voice]:
        """A converter whose decoder has learned a voice from its utterances, in minutes; and that voice.

        Give what is to be converted as `sources`: its words are kept better then. Of what is long, the first half
        minute is, of many the first 32, and what cannot be used is passed over: its own conversion will say why.

        Raises:
            VcvaeError: a file that cannot be used, or no file.
        """
        references = self.load_references(targets, sample_rate=sample_rate)
        with torch.inference_mode():
            voice = self._voice(references)
        words = self._replay_references(sources, sample_rate) if steps else ()
        model = finetune(self.model, references, sources=words, losses=self.losses, steps=steps)
        return Converter(model, self.vocoder, self.losses, device=str(self.device)), voice

    def _replay_references(self, sources: Iterable[Source], sample_rate: int | None) -> list[ReferenceMel]:
        """As `load_references`, of the first half minute of some recordings, without those that cannot be used."""
        rate, most, references = self.mel_config.sample_rate, PIECE * self.mel_config.hop, []
        for source in islice(sources, MAX_SOURCES):
            with suppress(VcvaeError):
                if isinstance(source, np.ndarray):
                    start = self._load(source, sample_rate)[:most]
                else:
                    start = next(audio.blocks(source, rate, most / rate), np.empty(0, np.float32))
                references += self.load_references([start], sample_rate=rate)
        return references

    def convert(
        self,
        source: Source,
        target: Source | Iterable[Source] | Voice,
        *,
        sample_rate: int | None = None,
        pitch_shift: float = 0.0,
        steps: int = ADAPT_STEPS,
    ) -> tuple[np.ndarray, int]:
        """The words of `source` in the voice of `target` → float32 samples (samples,), and their rate in Hz.

        Args:
            source: a path, or samples (samples,) at `sample_rate`.
            target: the same, or several of one speaker, or a voice that `voice` gave.
            sample_rate: of arrays, in Hz; the model's own where it is not given.
            pitch_shift: semitones, on top of the move to the target's f0_statistics.
            steps: of learning the target's voice first, where it is no `Voice`; 0 for none. To convert more than once
                to a voice, call `adapted` with all that is to be converted, and give what it returns.

        Raises:
            VcvaeError: audio that cannot be used.
        """
        samples = self._load(source, sample_rate)
        if not isinstance(target, Voice):
            targets = [target] if isinstance(target, str | Path | np.ndarray) else target
            learned, voice = self.adapted(targets, sources=[source], sample_rate=sample_rate, steps=steps)
            return learned.convert(source, voice, sample_rate=sample_rate, pitch_shift=pitch_shift)
        loudness, pieces = _Loudness(), []
        block = PIECE * self.mel_config.hop
        starts = range(0, len(samples), block)
        for references, spoken in self._run(
            "the source", lambda: (samples[i : i + block] for i in starts), target, pitch_shift
        ):
            loudness.add(references, spoken)
            pieces.append(spoken)
        return np.concatenate(pieces) * loudness.gain, self.mel_config.sample_rate

    def convert_file(
        self, source: str | Path, voice: Voice, output: str | Path, *, pitch_shift: float = 0.0, force: bool = False
    ) -> None:
        """`convert` from file to file, in memory that does not grow with the file's length.

        Raises:
            VcvaeError: audio that cannot be used, or an output that cannot be written; then none is left behind.
        """
        rate, hop = self.mel_config.sample_rate, self.mel_config.hop
        audio.check_output(output, force)
        seconds = PIECE * hop / rate
        with audio.Writer(output, rate, force=force) as writer:
            loudness = _Loudness()
            for references, spoken in self._run(
                source, lambda: audio.blocks(source, rate, seconds), voice, pitch_shift
            ):
                loudness.add(references, spoken)
                writer.append(spoken)
            writer.gain = loudness.gain

    @torch.inference_mode()
    def _run(
        self, name: str | Path, blocks: Callable[[], Iterable[np.ndarray]], voice: Voice, pitch_shift: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Source and converted samples, (samples,) each, piece by piece; `blocks()` starts the source anew."""
        hop = self.mel_config.hop
        f0_statistics = self._register(name, blocks())
        waiting = np.empty(0, np.float32)  # converted, and to be joined with the start of the next piece
        for piece, is_last in _pieces(blocks(), PIECE * hop, OVERLAP * hop):
            mel = self._mel(piece)
            target_f0 = self.model.target_f0(mel, voice, f0_statistics=f0_statistics, pitch_shift=pitch_shift)
            converted = attenuate_pauses(self.model.convert(mel, voice, target_f0=target_f0), mel)
            spoken = self.vocoder.synthesize(converted, target_f0)[0].float().cpu().numpy()[: len(piece)]
            joined = _join(waiting, spoken, converted[0], hop)
            end = len(joined) if is_last else PIECE * hop
            yield piece[:end], joined[:end]
            waiting = joined[end:]

    def _register(self, name: str | Path, blocks: Iterable[np.ndarray]) -> F0Statistics:
        """Of a whole source, (1,), over all its blocks."""
        contours, samples = [], 0
        for block in blocks:
            samples += len(block)
            if len(block) >= self.mel_config.minimum_samples:
                contours.append(self.model.f0(self._mel(block)))
        if samples < self.mel_config.minimum_samples:
            raise self._too_short(name, samples)
        return F0Contour.concatenate(contours).statistics()


class _Loudness:
    """Sums up how loud source and result are, for the gain that makes them equal. A DC offset is not loudness."""

    def __init__(self) -> None:
        self.references, self.spoken = np.zeros(3), np.zeros(3)  # samples, their sum, and the sum of their squares
        self.peak = 0.0

    def add(self, references: np.ndarray, spoken: np.ndarray) -> None:
        for sums, samples in ((self.references, references), (self.spoken, spoken)):
            sums += len(samples), samples.sum(dtype=float), np.square(samples, dtype=float).sum()
        self.peak = max(self.peak, float(np.abs(spoken).max(initial=0)))

    @property
    def gain(self) -> np.float32:
        """Equal variance, or less where the peak would exceed full scale."""
        references, spoken = (
            max(squares / n - (total / n) ** 2, 1e-12) for n, total, squares in (self.references, self.spoken)
        )
        return np.float32(min((references / spoken) ** 0.5, 0.99 / max(self.peak, 1e-12)))


def _pieces(blocks: Iterable[np.ndarray], piece: int, overlap: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Blocks of samples → pieces of `piece + overlap` samples that start every `piece`, and whether one is the last.

    The last is whatever remains: less than `2 · piece + overlap` samples, and, unless it is the only one, at least
    `piece + overlap`.
    """
    waiting = np.empty(0, np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= 2 * piece + overlap:
            yield waiting[: piece + overlap], False
            waiting = waiting[piece:]
    yield waiting, True


def attenuate_pauses(converted: Tensor, mel: Tensor) -> Tensor:
    """A conversion that is as quiet as its source where that pauses; log-mels (batch, n_mels, frames) both.

    What a decoder leaves in a pause is the mean of what it learned there, and a mean of noises is not quiet.
    """

    def loudness(mel: Tensor) -> Tensor:
        """Of each frame, in nepers above the mean level: (batch, 1, frames)."""
        frames = torch.exp(2 * mel).sum(dim=1, keepdim=True).log() / 2
        return F.avg_pool1d(frames, SMOOTHING_FRAMES, 1, SMOOTHING_FRAMES // 2, count_include_pad=False) - level(mel)

    references, spoken = loudness(mel), loudness(converted)
    pausing = (-PAUSE_THRESHOLD - references).clamp(0, 1)  # wholly from a neper further down, that nothing is cut off
    return converted + pausing * (references - spoken).clamp(max=0)


def _join(before: np.ndarray, after: np.ndarray, mel: Tensor, hop: int) -> np.ndarray:
    """Cross-fade the end of one piece into the start of the next, where the middle of what they share is quietest.

    `before` (overlap,) and the start of `after` (samples,) are the same stretch of time; `mel` (n_mels, frames) is
    `after`'s.
    """
    if not len(before):
        return after
    frames = len(before) // hop
    quarter = frames // 4
    loudness = F.avg_pool1d(mel[:, :frames].exp().mean(0)[None], 2 * FADE + 1, 1, FADE)[0]
    centre = (quarter + int(loudness[quarter : frames - quarter].argmin())) * hop
    weight = np.zeros(len(before), np.float32)
    half = FADE * hop // 2
    weight[centre - half : centre + half] = np.linspace(0, 1, 2 * half, dtype=np.float32)
    weight[centre + half :] = 1
    return np.concatenate([(1 - weight) * before + weight * after[: len(before)], after[len(before) :]])
