"""What a run writes while it lasts: figures as text for everyone, and TensorBoard's events for eyes and ears."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from torch import Tensor

from vcvae.errors import VcvaeError, disk_errors, replacing
from vcvae.features.mel import MelConfig
from vcvae.training.task import ValidationResult

FIGURES = "figures.jsonl"


class Log:
    """`figures.jsonl`, a line a step that was logged; and TensorBoard's event files: the same figures, mels, sounds."""

    def __init__(self, folder: Path, step: int, config: MelConfig) -> None:
        """For a run that stands at `step`: what was written after it, by a run that was killed, is taken back."""
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.config = folder, config
        with disk_errors(folder):
            kept = [line for line in read(folder) if line["step"] <= step]
            with replacing(folder / FIGURES) as file:
                file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def figures(self, group: str, values: dict[str, float], step: int) -> None:
        """Figures by name, of a group: train or dev.

        Raises:
            VcvaeError: they cannot be written.
        """
        with disk_errors(self.folder):
            with open(self.folder / FIGURES, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "group": group, **values}) + "\n")
            for name, value in values.items():
                self.writer.add_scalar(f"{group}/{name}", value, step)

    def findings(self, found: ValidationResult, step: int) -> None:
        """A validation: its figures, its mels as pictures and by Griffin-Lim, its sounds.

        Raises:
            VcvaeError: they cannot be written.
        """
        from vcvae.vocoder.griffin_lim import GriffinLim

        self.figures("dev", found.figures, step)
        vocoder, sounds = GriffinLim(self.config), dict(found.sounds)
        with disk_errors(self.folder):
            for name, mel in found.mels.items():
                mel = mel.cpu()
                grey = ((mel - mel.min()) / (mel.max() - mel.min()).clamp(min=1e-6)).flip(0)
                self.writer.add_image(f"mel/{name}", grey[None], step)
                sounds.setdefault(name, vocoder(mel[None]))
            for name, samples in sounds.items():
                self._sound(name, samples, step)

    def _sound(self, name: str, samples: Tensor, step: int) -> None:
        loudest = samples.abs().max().clamp(min=1e-6)
        self.writer.add_audio(f"audio/{name}", samples / loudest, step, self.config.sample_rate)

    def close(self) -> None:
        with disk_errors(self.folder):
            self.writer.close()


def read(folder: Path) -> list[dict]:
    """The lines of a run's figures, each with `step`, `group` and figures by name; none where none was written yet."""
    try:
        lines = (folder / FIGURES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # the line at which a run was killed
            continue
    return found


def require_tensorboard() -> None:
    """Raise a VcvaeError where TensorBoard is missing: better before a run than in it."""
    if importlib.util.find_spec("tensorboard") is None:
        raise VcvaeError(
            "training writes TensorBoard logs; install vcvae with its extra 'train', or tensorboard alone."
        )
