"""Reading, checking, resampling, trimming and writing audio files; no other module reads or writes them for users.

Audio is mono float32 in [-1, 1], of shape (samples,). A file that cannot be used is a `VcvaeError`; no partly written
file is left behind.
"""

from vcvae.audio.folders import AUDIO_ENDINGS, find, find_readable
from vcvae.audio.opening import check_input, is_pointer
from vcvae.audio.reading import blocks, duration, from_array, read
from vcvae.audio.writing import OUTPUT_FORMATS, Writer, check_output, write, write_pieces

__all__ = [
    "AUDIO_ENDINGS",
    "OUTPUT_FORMATS",
    "Writer",
    "blocks",
    "check_input",
    "check_output",
    "duration",
    "find",
    "find_readable",
    "from_array",
    "is_pointer",
    "read",
    "write",
    "write_pieces",
]
