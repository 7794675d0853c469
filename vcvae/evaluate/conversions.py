"""The conversions to measure: each is made once and kept, so an evaluation that was stopped can go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcvae import audio
from vcvae.convert.converter import Converter
from vcvae.convert.encoder import recording_blocks
from vcvae.convert.stream import check_streams
from vcvae.documents import read_json
from vcvae.errors import VcvaeError, check_folder, disk_errors, remove_unfinished, replacing
from vcvae.evaluate.cases import Case, check_length
from vcvae.models.conversion.voice import Voice
from vcvae.models.hub import fingerprint
from vcvae.progress import Progress, no_progress


class Conversions:
    """Makes the conversions of cases, in `folder`/conversions."""

    def __init__(
        self,
        converter: Converter,
        cases: Sequence[Case],
        folder: Path,
        *,
        steps: int,
        refine: int | None = None,
        stream: bool = False,
        force: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        """Prepare the folder.

        Args:
            converter: makes the conversions.
            cases: the conversions to make.
            folder: where they are kept.
            steps: of fine-tuning to each target, with the very source of the case.
            refine: learn each target once, with the sentences of the package, and refine it to each source in so many
                steps (`Converter.refine`).
            stream: convert each source as it would arrive (`Converter.stream`), not as a whole file.
            force: make conversions again.
            progress: called with what is done of a case.

        Raises:
            VcvaeError: the folder cannot be written, or holds conversions made with other settings, without `force`.
        """
        self.converter = converter
        self.cases = cases
        self.folder = folder
        self.steps = steps
        self.refine = refine
        self.stream = stream
        self._voices: dict[tuple[Path, ...], Voice] = {}  # that were learned with the sentences of the package
        self.progress = progress
        if stream:
            check_streams(converter.vocoder)
        check_folder(folder)
        with disk_errors(folder, "made"):
            (folder / "conversions").mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        remove_unfinished(folder / "conversions")
        losses = converter.losses if steps else None
        self.settings = {
            "model": fingerprint(converter.model),
            "vocoder": f"{type(converter.vocoder).__name__} {fingerprint(converter.vocoder)}",
            "losses": fingerprint(losses) if losses else None,
            "steps": steps,
        }
        if refine is not None:
            self.settings["refine"] = refine
        if stream:
            self.settings["mode"] = "stream"
        _check_settings(folder, self.settings, cases, force)

    def make(self, case: Case) -> Path:
        """The converted recording; made unless it is there.

        Raises:
            VcvaeError: a recording that cannot be used.
        """
        output = _output_path(self.folder, case)
        check_length(case.source)
        if not output.exists():
            voice = self._learn(case)
            if self.stream:
                self._convert_stream(case.source, voice, output)
            else:
                self.converter.convert_file(case.source, voice, output, progress=self.progress)
            self.progress(0, 0, "")
        return output

    def _learn(self, case: Case) -> Voice:
        def progress(done: int, total: int | None, figures: str) -> None:
            self.progress(done, total, f"fine-tuning ({figures})")

        targets = tuple(case.targets)
        options = {"steps": self.steps, "reading": self.progress, "progress": progress}
        if self.refine is None:
            return self.converter.learn(targets, sources=[case.source], **options)
        if targets not in self._voices:
            self._voices[targets] = self.converter.learn(targets, **options)
        return self.converter.refine(self._voices[targets], case.source, steps=self.refine, progress=progress)

    def _convert_stream(self, source: Path, voice: Voice, output: Path) -> None:
        stream = self.converter.stream(voice)
        with audio.Writer(output, stream.sample_rate) as writer:
            for block in recording_blocks(source, self.converter.mel_config):
                writer.append(stream.push(block))
            writer.append(stream.finish())


class OtherConversions:
    """Conversions that another system has made: recordings named by the ids of cases, in any format."""

    def __init__(self, made: Path, cases: Sequence[Case], folder: Path, *, sample_rate: int) -> None:
        """The recordings in `made`, of which `folder` gets copies at `sample_rate` for the page.

        Raises:
            VcvaeError: no recordings in `made`, or `folder` cannot be written.
        """
        self.sample_rate = sample_rate
        self.cases = cases
        self.folder = folder
        self.made = made
        self.recordings = {path.stem: path for path in audio.find(made)}
        self.settings = {"converted": str(made)}
        check_folder(folder)
        with disk_errors(folder, "made"):
            (folder / "conversions").mkdir(parents=True, exist_ok=True)

    def make(self, case: Case) -> Path:
        """The converted recording, copied to where the page plays it.

        Raises:
            VcvaeError: there is none for the case, or it cannot be read.
        """
        if case.id not in self.recordings:
            raise VcvaeError(f"{self.made}: holds no {case.id}.wav, the conversion of {case.source}.")
        output = _output_path(self.folder, case)
        check_length(case.source)
        check_length(self.recordings[case.id])
        samples = audio.read(self.recordings[case.id], self.sample_rate)
        audio.write(output, samples, self.sample_rate, force=True)
        return output


def _output_path(folder: Path, case: Case) -> Path:
    return folder / "conversions" / f"{case.id}.wav"


def _check_settings(folder: Path, settings: dict[str, Any], cases: Sequence[Case], force: bool) -> None:
    """Refuse a folder of conversions made with other settings (`force` deletes those), and write the settings."""
    file = folder / "settings.json"
    files_of = {case.id: [str(path.resolve()) for path in (case.source, *case.targets)] for case in cases}
    earlier_files_of: dict[str, list[str]] = {}
    if force:
        with disk_errors(folder):
            for case in cases:
                _output_path(folder, case).unlink(missing_ok=True)
    elif file.exists():
        try:
            earlier = read_json(file, advice="give another folder with -o")
            earlier_files_of = earlier.pop("cases")
            differing = [name for name in settings | earlier if settings.get(name) != earlier.get(name)]
            if any(earlier_files_of.get(name, files) != files for name, files in files_of.items()):
                differing.append("table of cases")
        except (KeyError, AttributeError, TypeError):
            raise VcvaeError(f"{file}: was not written by 'vcvae evaluate'; give another folder with -o.") from None
        if differing:
            raise VcvaeError(
                f"{folder}: holds conversions with another {' and another '.join(differing)}; give another -o, or "
                "--force to make them again."
            )
    with replacing(file) as output:
        output.write(json.dumps(settings | {"cases": earlier_files_of | files_of}, indent=1).encode())
