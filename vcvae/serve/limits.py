"""How long and how large a recording may be that is uploaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import soundfile

from vcvae.errors import VcvaeError

BYTES_PER_MINUTE = 48000 * 2 * 3 * 60  # of 24-bit stereo at 48 kHz, the largest that is usual


@dataclass(frozen=True)
class Limits:
    """Of one recording, in minutes."""

    max_minutes: float

    @property
    def max_bytes(self) -> int:
        """Of its file."""
        return max(2**22, round(self.max_minutes * BYTES_PER_MINUTE))

    @property
    def sentence(self) -> str:
        """The limits as text, shown before the upload."""
        return f"{self.max_minutes:g} min and {self.max_bytes / 1e6:.0f} MB a recording"

    def check(self, path: Path) -> None:
        """Raise a VcvaeError if a recording is longer. A file that is no recording is not checked here."""
        try:
            info = soundfile.info(str(path))
        except (soundfile.SoundFileError, TypeError):
            return
        minutes = info.frames / info.samplerate / 60
        if minutes > self.max_minutes:
            raise VcvaeError(
                f"{path.name}: {minutes:.1f} minutes long; give at most {self.max_minutes:g}, in several parts."
            )
