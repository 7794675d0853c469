"""Defaults of the library that the command line's help states, too, without waiting for the modules that use them."""

ADAPT_STEPS = 200  # of learning a voice from a clip; what more of them win in likeness they lose in words
VOICE_STEPS = 300  # of learning a voice from minutes of it, once
MINIMUM_SECONDS = 1.0  # of a recording that is prepared for training
CODE_BITS = 16  # of each value of a code
