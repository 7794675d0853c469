"""The conversions that are measured: made once, and those that are finished are not made anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcvae.convert.converter import Converter
from vcvae.errors import VcvaeError, disk_errors, replacing
from vcvae.evaluate.cases import Case


class Conversions:
    """Makes the conversions of cases, in `folder`/conversions."""

    def __init__(
        self, converter: Converter, cases: Sequence[Case], folder: Path, *, steps: int, force: bool = False
    ) -> None:
        """Raises a VcvaeError where the folder cannot be written, or holds what was made otherwise, without `force`."""
        self.converter, self.folder, self.cases, self.steps = converter, folder, cases, steps
        with disk_errors(folder, "made"):
            (folder / "conversions").mkdir(parents=True, exist_ok=True)
        self.settings = {
            "model": fingerprint(converter.model),
            "vocoder": f"{type(converter.vocoder).__name__} {fingerprint(converter.vocoder)}",
            "losses": fingerprint(converter.losses) if converter.losses else None,
            "steps": steps,
        }
        _agree(folder, self.settings, cases, force)

    def make(self, case: Case) -> Path:
        """The conversion, which may be there already.

        Raises:
            VcvaeError: a recording that cannot be used.
        """
        output = _place(self.folder, case)
        if not output.exists():
            learned, voice = self.converter.adapted(case.targets, sources=[case.source], steps=self.steps)
            learned.convert_file(case.source, voice, output)
        return output


def _place(folder: Path, case: Case) -> Path:
    return folder / "conversions" / f"{case.id}.wav"


def fingerprint(module) -> str:
    """Twelve digits that are the same for the same weights alone."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _agree(folder: Path, settings: dict[str, Any], cases: Sequence[Case], force: bool) -> None:
    """What is in the folder was made as `settings` say; else, with `force`, it is deleted, to be made anew."""
    file = folder / "settings.json"
    made = {case.id: [str(path.resolve()) for path in (case.source, *case.targets)] for case in cases}
    before = {}
    if force:
        with disk_errors(folder):
            for case in cases:
                _place(folder, case).unlink(missing_ok=True)
    elif file.exists():
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            before = values["cases"]
            others = [name for name, value in settings.items() if values[name] != value]
            others += ["table of cases"] * any(before.get(name, files) != files for name, files in made.items())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            raise VcvaeError(f"{file}: not what 'vcvae evaluate' wrote; give another folder with -o.") from None
        if others:
            raise VcvaeError(
                f"{folder}: holds conversions with another {' and another '.join(others)}; give another -o, or --force "
                "to make them anew."
            )
    with replacing(file) as written:
        written.write(json.dumps(settings | {"cases": before | made}, indent=1).encode())
