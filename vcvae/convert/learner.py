"""Learning the voices of speakers: recordings → a voice, with what fine-tuning the decoder on them has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property

from vcvae.arrays import is_path, is_samples
from vcvae.conversion_losses import ConversionLosses
from vcvae.convert.encoder import Encoder, Recording, choose_sources, warn_of_little_speech
from vcvae.convert.finetune import finetune, finetuning_settings, refine
from vcvae.convert.finetune_sources import FinetuningSources
from vcvae.convert.voice_cache import VoiceCache, voice_key
from vcvae.defaults import REFINE_STEPS, VOICE_STEPS
from vcvae.errors import VcvaeError
from vcvae.models.conversion.difference import WeightDifference
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice, VoiceCard
from vcvae.progress import Progress, no_progress
from vcvae.torch_state import own_torch_state


class Learner(Encoder):
    """Learns voices for one model, which stays as it is."""

    def __init__(
        self,
        model: DisentanglingVAE,
        losses: ConversionLosses | Callable[[], ConversionLosses | None] | None = None,
        *,
        device: str = "cpu",
    ) -> None:
        """
        Args:
            model: the conversion model.
            losses: of fine-tuning, or a function that loads them, which is called when they are first used. Without
                them voices are learned by reconstruction alone.
            device: `auto`, `cpu`, `cuda` or `mps`.

        Raises:
            VcvaeError: the model and the losses are made for different mels.
        """
        super().__init__(model, device=device)
        if isinstance(losses, ConversionLosses):
            self.mel_config.require_equal(losses.mel_config, ours="the model", theirs="the losses")
        self._losses = losses

    @property
    def losses(self) -> ConversionLosses | None:
        """The losses of fine-tuning, loaded at the first use; None where there are none for the model's mel."""
        if callable(self._losses) and not isinstance(self._losses, ConversionLosses):
            self._losses = self._losses()
        return self._losses.to(self.device) if self._losses else None

    @own_torch_state()
    def learn(
        self,
        targets: Recording | Iterable[Recording],
        *,
        sources: Iterable[Recording] = (),
        sample_rate: int | None = None,
        steps: int = VOICE_STEPS,
        seed: int = 0,
        card: VoiceCard | None = None,
        cache: VoiceCache | None = None,
        reading: Progress = no_progress,
        progress: Progress = no_progress,
    ) -> Voice:
        """The voice of a target speaker, with what fine-tuning the decoder on the targets learns.

        It converts any source; the converter stays as it is. `Voice.save` writes it to a file.

        Args:
            targets: recordings of one speaker, best some minutes; more than `MAX_MINUTES` are not read.
            sources: recordings of other speakers, which fine-tuning converts to the target; of a long one the first
                half minute is used, of many the first 32. By default, sentences that come with the package.
            sample_rate: of arrays, in Hz; by default, the model's.
            steps: of fine-tuning; 0 for none, as in `voice`.
            seed: of fine-tuning, and of the choice of reference frames.
            card: whose voice it is; what it is learned from is added.
            cache: where a voice that was learned before is taken from, and a new one is kept.
            reading: called while the targets are read and encoded.
            progress: called after each step.

        Raises:
            VcvaeError: a target that cannot be used, or no target. A source that cannot be used is left out.
        """
        samples = self.load_targets(targets, sample_rate=sample_rate, progress=reading)
        sources = choose_sources(sources)
        key = ""
        if cache and steps:
            settings = {"model": self.fingerprint, "steps": steps, "seed": seed, "rate": sample_rate}
            key = voice_key(samples, sources, **settings, **finetuning_settings())
            kept = cache.find(key)
            if kept:
                return kept.to(self.device)
        references = self._references(samples)
        del samples  # of half an hour: 160 MB
        card = replace(card or VoiceCard(), steps=steps)
        voice = self._voice(references, seed=seed, card=card, progress=reading)
        warn_of_little_speech(voice.card)
        if not steps:
            return voice
        tuned = finetune(
            self.model,
            references,
            voice=voice,
            sources=self._encode_sources(sources, sample_rate),
            steps=steps,
            seed=seed,
            progress=progress,
        )
        voice = replace(voice, learned=WeightDifference.between(self.model.decoder, tuned.decoder))
        if key:
            voice = cache.keep(key, voice)
        return voice.to(self.device)

    @own_torch_state()
    def refine(
        self,
        voice: Voice,
        sources: Recording | Iterable[Recording],
        *,
        sample_rate: int | None = None,
        steps: int = REFINE_STEPS,
        source_weight: float = 0.0,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> Voice:
        """A voice with the decoder fine-tuned to the recordings that it will convert: it keeps more of their words.

        No recording of the target is needed. For voices that were learned with other sources, or are nobody's.

        Args:
            voice: by `learn`, `draw`, `Voice.load`, …
            sources: the recordings; of a long one the first half minute is used, of many the first 32.
            sample_rate: of arrays, in Hz; by default, the model's.
            steps: of fine-tuning.
            source_weight: how far it moves away from the recordings' own voice, at some cost of naturalness.
            seed: of fine-tuning.
            progress: called after each step.

        Raises:
            VcvaeError: a voice for another model, or a model that the losses do not fit. A source that cannot be used
                is left out; without any, the voice stays as it is.
        """
        voice = self.fitted(voice)
        if self.losses is None:
            raise VcvaeError("a voice for this model cannot be refined: the released losses are for another mel.")
        sources = [sources] if is_path(sources) or is_samples(sources) else list(sources)
        utterances = self.load_sources(sources, sample_rate=sample_rate) if sources else []
        if not (steps and utterances):
            return voice
        decoder = refine(
            self.model,
            voice,
            FinetuningSources(self.model, utterances, self.losses),
            sentences=self.sample_mels,
            steps=steps,
            source_weight=source_weight,
            seed=seed,
            progress=progress,
        )
        learned = WeightDifference.between(self.model.decoder, decoder)
        return replace(voice, learned=learned, card=replace(voice.card, steps=voice.card.steps + steps), path=None)

    def _encode_sources(self, recordings: list[Recording], sample_rate: int | None) -> FinetuningSources:
        """The sources of fine-tuning; the sentences that come with the package are kept for the next voice."""
        if all(map(is_path, recordings)) and recordings == choose_sources():
            return self._sentences
        return FinetuningSources(self.model, self.load_sources(recordings, sample_rate=sample_rate), self.losses)

    @cached_property
    def _sentences(self) -> FinetuningSources:
        return FinetuningSources(self.model, self.load_sources(), self.losses)

    def fitted(self, voice: Voice) -> Voice:
        """The voice on the converter's device.

        Raises:
            VcvaeError: it is for another model, or damaged.
        """
        voice = voice.to(self.device)
        self.model.check_voice(voice, self.fingerprint)
        return voice
