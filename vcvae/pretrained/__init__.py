"""Where the released weights lie, each folder with its card."""

from pathlib import Path

_HERE = Path(__file__).parent
CONVERSION = _HERE / "conversion"
VOCODER = _HERE / "vocoder"
SPEAKER_SIMILARITY = _HERE / "speaker_similarity"  # for the speaker similarity loss
CONTENT = _HERE / "content"  # for the content loss
SENTENCES = _HERE / "sentences"  # short recordings by many speakers: sources of fine-tuning without a source
