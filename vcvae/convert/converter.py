"""Voice conversion of recordings: source audio → mel → content, F0; target audio → voice; decoder → vocoder → audio."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vcvae import audio
from vcvae.arrays import is_path
from vcvae.conversion_losses import ConversionLosses, load_losses
from vcvae.convert import chunks
from vcvae.convert.draw import Drawing
from vcvae.convert.encoder import Recording, recording_blocks
from vcvae.convert.guidance import WEIGHT, Guidance, guide
from vcvae.convert.learner import Learner
from vcvae.convert.level import follow_level, match_seconds
from vcvae.convert.source import EncodedSource, analyze_source
from vcvae.convert.stream import Stream
from vcvae.defaults import VOICE_DISTANCE, VOICE_STEPS
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour, F0Statistics
from vcvae.models import load_model
from vcvae.models.conversion.prior import VoicePrior
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice, is_voice
from vcvae.progress import Progress, no_progress
from vcvae.torch_state import own_torch_state
from vcvae.vocoder import DEFAULT_VOCODER, Vocoder, load_vocoder


class Converter(Learner):
    """Converts recordings to other voices.

    Example:
        >>> import numpy as np
        >>> from vcvae.models.conversion.config import DisentanglingConfig
        >>> from vcvae.vocoder import GriffinLim
        >>> converter = Converter(DisentanglingVAE(DisentanglingConfig(fast_channels=16)), GriffinLim(iterations=2))
        >>> noise = np.random.default_rng(0).standard_normal(11025).astype(np.float32) / 10
        >>> samples, sample_rate = converter.convert(noise, converter.voice([noise]))
        >>> samples.shape
        (11025,)
    """

    @own_torch_state()
    def __init__(
        self,
        model: DisentanglingVAE,
        vocoder: Vocoder,
        losses: ConversionLosses | Callable[[], ConversionLosses | None] | None = None,
        *,
        prior: Callable[[], VoicePrior] = VoicePrior.from_pretrained,
        device: str = "cpu",
    ) -> None:
        """
        Args:
            model: the conversion model.
            vocoder: used as for predicted mels.
            losses: of fine-tuning, or a function that loads them, as of a `Learner`.
            prior: a function that loads the prior from which voices are drawn; by default, the released one.
            device: `auto`, `cpu`, `cuda` or `mps`.

        Raises:
            VcvaeError: the parts are made for different mels.
        """
        model.config.mel.require_equal(vocoder.mel_config, ours="the model", theirs="the vocoder")
        super().__init__(model, losses, device=device)
        self.vocoder = vocoder.for_predicted_mels().to(self.device).eval()
        self._load_prior = prior

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, *, vocoder: str | None = None, device: str = "auto", seed: int = 0
    ) -> Converter:
        """A converter with a saved model and a vocoder; by default, the released ones.

        The released losses are loaded when a voice is first learned, if they are made for the model's mel.

        Args:
            model: a folder or a Hugging Face repository id.
            vocoder: as in `load_vocoder`: `source-filter`, `griffin-lim`, `hifigan:PATH`, …
            device: `auto`, `cpu`, `cuda` or `mps`.
            seed: of the vocoder's initial phases, where these are random.

        Raises:
            VcvaeError: something is not found, or the parts do not fit.
        """
        loaded_model = load_model(model)
        mel = loaded_model.config.mel
        loaded_vocoder = load_vocoder(vocoder, mel, seed=seed)
        is_released = vocoder in (None, DEFAULT_VOCODER)
        shared = loaded_vocoder if is_released else None
        return cls(
            loaded_model,
            loaded_vocoder,
            lambda: load_losses(mel, vocoder=shared),
            prior=lambda: VoicePrior.from_pretrained(model),
            device=device,
        )

    @own_torch_state()
    def draw(
        self,
        *,
        seed: int = 0,
        f0: float | None = None,
        like: Voice | None = None,
        distance: float = VOICE_DISTANCE,
        avoid: Iterable[Voice] = (),
    ) -> Voice:
        """A voice that nobody has: far from each training speaker, and the same for the same seed.

        Args:
            seed: of all that is drawn.
            f0: mean F0 in Hz; by default, drawn with the speaker.
            like: a voice that the drawn one resembles.
            distance: from `like`, 1 - the cosine of their centred speaker embeddings; about.
            avoid: other voices that it must differ from.

        Raises:
            VcvaeError: the model has no prior, a number is out of range, or no voice is found that is far enough from
                others.
        """
        like = like and self.fitted(like)
        return self.drawing.draw(self.prior, seed=seed, f0=f0, like=like, distance=distance, avoid=avoid).voice

    @cached_property
    def prior(self) -> VoicePrior:
        """The prior that voices are drawn from, loaded at the first use.

        Raises:
            VcvaeError: there is none for the model.
        """
        prior = self._load_prior()
        if prior.fingerprint != self.fingerprint:
            raise VcvaeError(
                f"the prior of voices is for another model ({prior.fingerprint}, not {self.fingerprint}); make it anew "
                "with recipes/release/voice_prior.py."
            )
        return prior

    @cached_property
    def drawing(self) -> Drawing:
        """Draws voices for the model."""
        return Drawing(self)

    @own_torch_state()
    def convert(
        self,
        source: Recording,
        target: Recording | Iterable[Recording] | Voice,
        *,
        sample_rate: int | None = None,
        pitch_shift: float = 0.0,
        quick: bool = False,
    ) -> tuple[np.ndarray, int]:
        """The content of `source` in the voice of `target` → float32 samples (samples,), and their rate in Hz.

        Args:
            source: a path, or samples (samples,) at `sample_rate`.
            target: a voice, by `learn`, `voice` or `Voice.load`, or the path of its file; or recordings, whose voice
                is learned first, for this source. To convert several sources to one target, call `learn` once.
            sample_rate: of arrays, in Hz; by default, the model's.
            pitch_shift: semitones, added to the F0 after its statistics are matched to the target's.
            quick: take the voice of recordings in one pass, as `voice` does, and learn nothing.

        Raises:
            VcvaeError: a recording that cannot be used, or a voice for another model.
        """
        samples = self._load(source, sample_rate)
        if is_path(target) and is_voice(target):
            target = Voice.load(target)
        if not isinstance(target, Voice):
            steps = 0 if quick else VOICE_STEPS
            target = self.learn(target, sources=[source], sample_rate=sample_rate, steps=steps)
        return self._convert_samples(samples, self.fitted(target), pitch_shift)

    @own_torch_state()
    def stream(self, voice: Voice, *, pitch_shift: float = 0.0) -> Stream:
        """A conversion of speech that arrives in pieces: `push(samples)` → samples, `finish()` → the rest.

        Raises:
            VcvaeError: a voice for another model, or a vocoder other than the source-filter vocoder.
        """
        return Stream(self, self.fitted(voice), pitch_shift=pitch_shift)

    @own_torch_state()
    def convert_file(
        self,
        source: str | Path,
        voice: Voice,
        output: str | Path,
        *,
        pitch_shift: float = 0.0,
        guidance: float = WEIGHT,
        force: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        """`convert` from file to file, in memory that does not grow with the file's length.

        Args:
            source: a recording.
            voice: of the target.
            output: the file to write.
            pitch_shift: semitones, as in `convert`.
            guidance: how far a conversion in one pass is moved away from the source's own voice, as a part of the
                difference to it: with more, less of the source's voice and of naturalness is left.
            force: overwrite the output.
            progress: called with the seconds of the source, in a first pass that measures it and in a second one.

        Raises:
            VcvaeError: a source that cannot be used, a voice for another model, or an output that cannot be written;
                then none is left behind.
        """
        config = self.mel_config

        def blocks(description: str) -> Iterator[np.ndarray]:
            return recording_blocks(source, config, progress=progress, description=description)

        converted = self._convert_blocks(source, blocks, self.fitted(voice), pitch_shift, guidance)
        audio.write_pieces(output, converted, config.sample_rate, force=force)

    def _convert_samples(self, samples: np.ndarray, voice: Voice, pitch_shift: float) -> tuple[np.ndarray, int]:
        """Samples (samples,) at the model's rate → converted samples (samples,) and their rate."""
        block = chunks.PIECE_FRAMES * self.mel_config.hop
        starts = range(0, len(samples), block)
        pieces = self._convert_blocks(
            "the source", lambda _: (samples[i : i + block] for i in starts), voice, pitch_shift
        )
        return np.concatenate(list(pieces)), self.mel_config.sample_rate

    @torch.inference_mode()
    def _convert_blocks(
        self,
        name: str | Path,
        blocks: Callable[[str], Iterable[np.ndarray]],
        voice: Voice,
        pitch_shift: float,
        weight: float = WEIGHT,
    ) -> Iterator[np.ndarray]:
        """The converted samples, (samples,), piece by piece.

        `blocks(description)` yields the source's samples from the start, in blocks of `PIECE_FRAMES`; the description
        says what for. For a source of one block it is called once.
        """
        source = analyze_source(blocks("analyzing"), self.encode, self.mel_config, name=name)
        voice, guidance = guide(self, voice, source, weight=weight)

        def convert_piece(piece: EncodedSource) -> np.ndarray:
            target_f0 = self.target_f0(piece.f0, source.f0_statistics, voice, pitch_shift=pitch_shift)
            converted_mel = self.decode(piece, voice, target_f0, guidance)
            converted = self.synthesize(converted_mel, target_f0)[: len(piece.samples)]
            voicing = target_f0.per_frame(piece.mel.shape[2]).voicing[0].cpu().numpy()
            return match_seconds(converted, piece.samples, voicing, self.mel_config)

        if source.encoded:
            yield convert_piece(source.encoded)
        else:
            yield from chunks.process_pieces(
                blocks("converting"), lambda samples: convert_piece(self.encode(samples)), hop=self.mel_config.hop
            )

    def encode(self, samples: np.ndarray) -> EncodedSource:
        """Samples (samples,) of a source, with their mel and F0."""
        mel = self._mel(samples)
        return EncodedSource(samples, mel, self.model.f0(mel))

    def target_f0(
        self, source_f0: F0Contour, statistics: F0Statistics, voice: Voice, *, pitch_shift: float = 0.0
    ) -> F0Contour:
        """The source's F0 contour with the mean and the standard deviation of the target's, `pitch_shift` semitones up.

        `statistics` are those of the whole source.
        """
        return source_f0.transfer(statistics, voice.f0_statistics).shift(pitch_shift / 12).within_range()

    def decode(
        self, source: EncodedSource, voice: Voice, target_f0: F0Contour, guidance: Guidance | None = None
    ) -> Tensor:
        """Converted ln-mel (1, n_mels, frames), like the source's, at the level of the source at every moment."""
        features = self.asr_features(source.samples)

        def decode_to(voice: Voice) -> Tensor:
            return self.model.decode_content(source.mel, voice, target_f0=target_f0, asr_features=features)

        decoded = decode_to(voice)
        if guidance:
            decoded = guidance.guided(decoded, decode_to(guidance.source_voice))
        voicing = target_f0.per_frame(source.mel.shape[2]).voicing
        return follow_level(decoded, source.mel, voicing, self.mel_config)

    def synthesize(self, mel: Tensor, f0: F0Contour) -> np.ndarray:
        """Ln-mel (1, n_mels, frames) and F0 (1, ceil(frames / 2)) → samples (frames * hop,) float32."""
        return self.vocoder.synthesize(mel, f0)[0].float().cpu().numpy()
