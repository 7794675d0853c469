"""What the tests of audio files share: signals, files, and how a refusal looks."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import soundfile

from tests.synthetic import RATE, speak
from vcvae.errors import VcvaeError

cached_speech = functools.cache(speak)


def sine(frequency, seconds=1.0, rate=RATE, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def put(path, samples, rate=RATE, subtype=None, **kwargs):
    soundfile.write(str(path), samples, rate, subtype=subtype, **kwargs)
    return path


def refused(call, *words):
    """The message of the VcvaeError that `call` raises: one line, with all the `words`."""
    with pytest.raises(VcvaeError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    for word in words:
        assert str(word) in message
    return message


def cut(path, part=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    return path
