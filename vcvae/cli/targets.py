"""What `vcvae convert` converts to, as its model decides: the voice of any target, or the target of a pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from vcvae.cli.batch import Failures, Job, name_of
from vcvae.cli.console import err
from vcvae.cli.options import ON_CPU, refuse_ignored
from vcvae.convert.converter import Converter
from vcvae.convert.encoder import choose_sources
from vcvae.convert.pair import PairConverter
from vcvae.convert.voice_cache import VoiceCache
from vcvae.defaults import STDIN, VOICE_STEPS
from vcvae.errors import VcvaeError
from vcvae.models.conversion.voice import Voice, VoiceCard, is_voice
from vcvae.models.hub import describe
from vcvae.progress import Progress, no_progress
from vcvae.vocoder import load_vocoder


class JobConverter(Protocol):
    """Converts the jobs of a command, one after another."""

    def convert_file(self, job: Job, *, pitch_shift: float, force: bool, progress: Progress = no_progress) -> None:
        """Convert the job's source, and write its output; `progress` is that of a long recording.

        Raises:
            VcvaeError: audio that cannot be used, or an output that cannot be written.
        """


class Learning:
    """How the voice of a target is learned from its recordings."""

    def __init__(
        self,
        *,
        steps: int | None = None,
        replay: Path | None = None,
        use_cache: bool = True,
        announce: bool,
        left_out: Failures,
        progress: Progress,
    ) -> None:
        """
        Args:
            steps: of fine-tuning; by default, `VOICE_STEPS`.
            replay: recordings of other speakers to convert meanwhile; by default, the sources that are converted to
                this target.
            use_cache: take a voice from the user's cache that was learned before, and keep a new one there.
            announce: print where a voice is kept that was learned just now.
            left_out: where recordings of a folder are noted that cannot be read.
            progress: called after each step of fine-tuning.

        Raises:
            VcvaeError: there is no recording in `replay`.
        """
        self.steps = steps
        self.sources = choose_sources(left_out.find_readable(replay)) if replay else []
        self.cache = VoiceCache() if use_cache else None
        self.announce = announce
        self.progress = progress

    def learn(
        self,
        converter: Converter,
        recordings: Iterable[Path],
        name: str,
        sources: Sequence[Path],
        *,
        reading: Progress = no_progress,
    ) -> Voice:
        """The voice of the recordings, for conversions of `sources`; `reading` is called before fine-tuning begins.

        Raises:
            VcvaeError: a recording that cannot be used.
        """
        steps = 0

        def progress(done: int, total: int | None, description: str) -> None:
            nonlocal steps
            steps = done
            self.progress(done, total, description)

        card = VoiceCard(name=name)
        voice = converter.learn(
            recordings,
            sources=self.sources or sources,
            steps=VOICE_STEPS if self.steps is None else self.steps,
            card=card,
            cache=self.cache,
            reading=reading,
            progress=progress,
        )
        if self.announce and steps and voice.path:
            err.print(f"{name}: the voice is kept in {voice.path}", soft_wrap=True)
        return voice


class ToTargets:
    """Converts to the voice of each job's targets: of a file, or taken from recordings. The last one is kept."""

    def __init__(
        self,
        converter: Converter,
        jobs: Sequence[Job],
        learning: Learning | None,
        left_out: Failures,
        refine_steps: int = 0,
    ) -> None:
        """
        Args:
            converter: makes the conversions.
            jobs: all of them.
            learning: without it, recordings give the voice of one pass.
            left_out: where recordings of a target's folder are noted that cannot be read.
            refine_steps: in which each voice is refined to each source.
        """
        self._converter = converter
        self._jobs = jobs
        self._left_out = left_out
        self._learning = learning
        self._refine_steps = refine_steps
        self._targets: tuple[Path, ...] = ()

    def convert_file(self, job: Job, *, pitch_shift: float, force: bool, progress: Progress = no_progress) -> None:
        if job.targets != self._targets:
            self._targets = ()  # until it has worked
            self._voice = self.take_voice(job.targets, progress)
            self._targets = job.targets
        voice = self._voice
        if self._refine_steps:
            voice = self._converter.refine(voice, job.source, steps=self._refine_steps, progress=progress)
        self._converter.convert_file(
            job.source, voice, job.output, pitch_shift=pitch_shift, force=force, progress=progress
        )

    def take_voice(self, targets: tuple[Path, ...], progress: Progress = no_progress) -> Voice:
        """The voice of a file, or of recordings; `progress` is called while they are read.

        Raises:
            VcvaeError: a target that cannot be used.
        """
        if any(map(is_voice, targets)):
            if len(targets) > 1:
                raise VcvaeError(
                    f"--target {targets[0]}: a .voice is not combined with others; give one, or recordings."
                )
            return self._converter.fitted(Voice.load(targets[0]))
        recordings = (file for target in targets for file in self._left_out.find_readable(target))
        if self._learning is None:
            card = VoiceCard(name=name_of(targets[0]))
            return self._converter.learn(recordings, steps=0, card=card, reading=progress)
        # Standard input can be read only once.
        sources = [job.source for job in self._jobs if job.targets == targets and job.source != STDIN]
        return self._learning.learn(self._converter, recordings, name_of(targets[0]), sources, reading=progress)


class ToPairTarget:
    """Converts the source speaker of a pair to its target speaker, by the Gaussian mixture that `vcvae fit` made."""

    def __init__(self, converter: PairConverter) -> None:
        self._converter = converter

    def convert_file(self, job: Job, *, pitch_shift: float, force: bool, progress: Progress = no_progress) -> None:
        self._converter.convert_file(job.source, job.output, pitch_shift=pitch_shift, force=force, progress=progress)


def load_converter(
    model: str | None,
    jobs: Sequence[Job],
    *,
    vocoder: str | None,
    device: str,
    seed: int,
    learning: Learning | None,
    left_out: Failures,
    refine_steps: int = 0,
) -> JobConverter:
    """The converter that the model is, with a vocoder.

    Args:
        learning: of voices whose recordings are given; None for one pass.
        left_out: where recordings of a target's folder are noted that cannot be read.
        refine_steps: in which each voice is refined to each source; 0 for none.

    Raises:
        VcvaeError: something is not found, or the parts do not fit; targets beside a model of one pair of speakers, or
            none beside another model; options for learning, and nothing to learn.
    """
    if learning and all(is_voice(target) for job in jobs for target in job.targets):
        ignored = {"--steps": learning.steps, "--replay": learning.sources}
        refuse_ignored(ignored, "with a .voice, or a model for one target: nothing is learned")
    has_targets = any(job.targets for job in jobs)
    if model and describe(model)[0] == "GMMConversion":
        if has_targets:
            raise VcvaeError(
                f"--model {model}: has its own target speaker; give a SOURCE, and neither --target nor --pairs."
            )
        refuse_ignored({"--device": device not in ON_CPU}, "for a model of a pair: it converts on the CPU")
        refuse_ignored({"--refine": refine_steps or None}, "for a model of a pair: it has no voice")
        return ToPairTarget(_load_pair(model, vocoder, seed))
    if not has_targets:
        raise VcvaeError("--target: missing; give recordings of the target, or a voice that 'vcvae voice' made.")
    converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
    return ToTargets(converter, jobs, learning, left_out, refine_steps)


def _load_pair(model: str, vocoder: str | None, seed: int) -> PairConverter:
    from vcvae.models.classic.gmm_conversion import GMMConversion

    loaded = GMMConversion.from_pretrained(model)
    return PairConverter(loaded, load_vocoder(vocoder, loaded.config.mel, seed=seed))
