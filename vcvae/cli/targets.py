"""What `vcvae convert` converts to, as its model decides: any target, an adapted model's voice, or a pair's target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vcvae import audio
from vcvae.cli.batch import Job
from vcvae.convert.converter import Converter
from vcvae.convert.pair import PairConverter
from vcvae.errors import VcvaeError
from vcvae.models.conversion.voice import Voice
from vcvae.models.hub import describe
from vcvae.progress import Progress
from vcvae.vocoder import load_vocoder


class JobConverter(Protocol):
    def convert_file(self, job: Job, *, pitch_shift: float, force: bool) -> None:
        """Convert the job's source, and write its output.

        Raises:
            VcvaeError: audio that cannot be used, or an output that cannot be written.
        """


class ToTargets:
    """Converts to the targets of each job, after fine-tuning on them; the last fine-tuned converter is kept."""

    def __init__(self, converter: Converter, jobs: Sequence[Job], *, steps: int, progress: Progress) -> None:
        self._converter = converter
        self._jobs = jobs
        self._steps = steps
        self._progress = progress
        self._targets: tuple[Path, ...] = ()

    def convert_file(self, job: Job, *, pitch_shift: float, force: bool) -> None:
        if job.targets != self._targets:
            self._finetune(job.targets)
        self._finetuned.convert_file(job.source, self._voice, job.output, pitch_shift=pitch_shift, force=force)

    def _finetune(self, targets: tuple[Path, ...]) -> None:
        self._targets = ()  # until it has worked
        references = [file for target in targets for file in audio.find_recordings(target)]
        sources = [job.source for job in self._jobs if job.targets == targets]
        self._finetuned, self._voice = self._converter.finetuned(
            references, sources=sources, steps=self._steps, progress=self._progress
        )
        self._targets = targets


class ToOwnVoice:
    """Converts to the voice that `vcvae adapt` saved with the model."""

    def __init__(self, converter: Converter, voice: Voice) -> None:
        self._converter = converter
        self._voice = voice.to(converter.device)

    def convert_file(self, job: Job, *, pitch_shift: float, force: bool) -> None:
        self._converter.convert_file(job.source, self._voice, job.output, pitch_shift=pitch_shift, force=force)


class ToPairTarget:
    """Converts the source speaker of a pair to its target speaker, by the Gaussian mixture that `vcvae fit` made."""

    def __init__(self, converter: PairConverter) -> None:
        self._converter = converter

    def convert_file(self, job: Job, *, pitch_shift: float, force: bool) -> None:
        self._converter.convert_file(job.source, job.output, pitch_shift=pitch_shift, force=force)


def load_converter(
    model: str | None,
    jobs: Sequence[Job],
    *,
    vocoder: str | None,
    device: str,
    seed: int,
    steps: int,
    progress: Progress,
) -> JobConverter:
    """The converter that the model is, with a vocoder.

    Args:
        steps: of fine-tuning on the targets of `jobs`, reported to `progress`.

    Raises:
        VcvaeError: something is not found, or the parts do not fit; targets beside a model of one pair of speakers, or
            none beside a model that has no voice of its own.
    """
    has_targets = any(job.targets for job in jobs)
    if model and describe(model)[0] == "GMMConversion":
        if has_targets:
            raise VcvaeError(
                f"--model {model}: has its own target speaker; give a SOURCE, and neither --target nor --pairs."
            )
        return ToPairTarget(_load_pair(model, vocoder, seed))
    voice = None if has_targets else Voice.load(model)
    converter = Converter.from_pretrained(model, vocoder=vocoder, device=device, seed=seed)
    if voice is not None:
        return ToOwnVoice(converter, voice)
    return ToTargets(converter, jobs, steps=steps, progress=progress)


def _load_pair(model: str, vocoder: str | None, seed: int) -> PairConverter:
    from vcvae.models.classic.gmm_conversion import GMMConversion

    loaded = GMMConversion.from_pretrained(model)
    return PairConverter(loaded, load_vocoder(vocoder, loaded.config.mel, seed=seed))
