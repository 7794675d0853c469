"""Defaults of the library that the command line's help states, too, without waiting for the modules that use them."""

from pathlib import Path

STDIN, STDOUT = Path("/dev/stdin"), Path("/dev/stdout")  # what - stands for on the command line, where audio goes
VOICE_SUFFIX = ".voice"  # of the file of a voice
SEEDED_VOCODER = "griffin-lim"  # the one that draws something: its initial phases
VOICE_STEPS = 200  # of fine-tuning to a voice; more raise the speaker similarity and the word error rate
REFINE_STEPS = 10  # of fine-tuning a voice to a source
MAX_VOICE_STEPS = 100_000  # of fine-tuning
MAX_PITCH_SHIFT = 24.0  # semitones
MAX_JOBS = 256  # processes that prepare a corpus
VOICE_DISTANCE = 0.5  # of a drawn voice from one that it should be like: 1 - cosine
MINIMUM_SECONDS = 1.0  # of a recording that is prepared for training
CODE_BITS = 16  # of each value of a code
