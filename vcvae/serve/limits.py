"""How long and how large a recording may be that is uploaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import soundfile

from vcvae.audio.opening import open_audio
from vcvae.errors import VcvaeError

UNKNOWN = 2**60  # frames, or more, say that a header has no length
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
        most = round(self.max_minutes * 60 * info.samplerate)
        frames = info.frames if info.frames < UNKNOWN else _count(path, most)
        minutes = frames / info.samplerate / 60
        if minutes > self.max_minutes:
            raise VcvaeError(
                f"{path.name}: {minutes:.1f} minutes long; give at most {self.max_minutes:g}, in several parts."
            )


def _count(path: Path, most: int) -> int:
    """The frames of a recording, or some number above `most`."""
    frames = 0
    with open_audio(path) as file:
        for chunk in file.chunks():
            frames += len(chunk)
            if frames > most:
                break
    return frames
