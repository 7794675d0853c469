"""Writing the log of a training run: figures as JSON lines, and TensorBoard events with mels and audio."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from torch import Tensor

from vcvae.errors import VcvaeError, disk_errors, replacing
from vcvae.features.mel import MelConfig
from vcvae.training.run_folder import FIGURES, read_figures
from vcvae.training.task import ValidationResult


class Log:
    """Writes `figures.jsonl`, one line per logged step, and TensorBoard event files with the same figures."""

    def __init__(self, folder: Path, step: int, config: MelConfig) -> None:
        """For a run that resumes at `step`: lines that a killed run wrote after it are removed.

        Raises:
            VcvaeError: the log cannot be written.
        """
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.config = folder, config
        with disk_errors(folder):
            kept = [line for line in read_figures(folder) if line["step"] <= step]
            with replacing(folder / FIGURES) as file:
                file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def figures(self, group: str, values: dict[str, float], step: int) -> None:
        """Write figures by name; `group` is train or dev.

        Raises:
            VcvaeError: they cannot be written.
        """
        with disk_errors(self.folder):
            with open(self.folder / FIGURES, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "group": group, **values}) + "\n")
            for name, value in values.items():
                self.writer.add_scalar(f"{group}/{name}", value, step)

    def speed(self, frames_per_second: float, step: int) -> None:
        """Write how fast the training is, for TensorBoard alone: no two runs have the same.

        Raises:
            VcvaeError: it cannot be written.
        """
        with disk_errors(self.folder):
            self.writer.add_scalar("train/frames_per_second", frames_per_second, step)

    def validation(self, result: ValidationResult, step: int) -> None:
        """Write a validation: its figures, its mels as images and as audio by Griffin-Lim, and its audio.

        Raises:
            VcvaeError: they cannot be written.
        """
        from vcvae.vocoder.griffin_lim import GriffinLim

        self.figures("dev", result.figures, step)
        vocoder = GriffinLim(self.config)
        audio = dict(result.audio)
        with disk_errors(self.folder):
            for name, mel in result.mels.items():
                mel = mel.cpu()
                grey = ((mel - mel.min()) / (mel.max() - mel.min()).clamp(min=1e-6)).flip(0)
                self.writer.add_image(f"mel/{name}", grey[None], step)
                audio.setdefault(name, vocoder(mel[None]))
            for name, samples in audio.items():
                self._write_audio(name, samples, step)

    def _write_audio(self, name: str, samples: Tensor, step: int) -> None:
        peak = samples.abs().max().clamp(min=1e-6)
        self.writer.add_audio(f"audio/{name}", samples / peak, step, self.config.sample_rate)

    def close(self) -> None:
        """Flush and close the event file."""
        with disk_errors(self.folder):
            self.writer.close()


def require_tensorboard() -> None:
    """Check before a run that TensorBoard is installed.

    Raises:
        VcvaeError: it is not.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise VcvaeError(
            "training writes TensorBoard logs; install vcvae with its extra 'train', or tensorboard alone."
        )
