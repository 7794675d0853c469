"""The generated speech that other tests use."""

import numpy as np
import pytest

from tests.synthetic import RATE, speak


def test_synthetic_speech_is_the_same_words_in_two_voices():
    first = speak("asiu o", f0=100, seconds=2)
    second = speak("asiu o", f0=200, tract=1.2, seconds=2)
    assert first.dtype == np.float32
    assert first.shape == second.shape == (2 * RATE,)
    np.testing.assert_array_equal(first, speak("asiu o", f0=100, seconds=2))
    assert not np.array_equal(first, speak("asiu o", f0=100, seconds=2, seed=1))
    vowel = speak("a", f0=100, seconds=1)[4000:-4000]
    correlation = np.correlate(vowel, vowel, "full")[len(vowel) - 1 :]
    assert RATE / (100 + np.argmax(correlation[100:400])) == pytest.approx(100, rel=0.11)
    for speech in (first, second):  # "s" is unvoiced and high, " " is silent, in both
        letters = dict(zip("asiu o", np.array_split(speech, 6), strict=True))
        crossings = {letter: np.mean(np.diff(np.sign(part)) != 0) for letter, part in letters.items()}
        assert crossings["s"] > 0.3 > crossings["a"]
        assert letters[" "][1000:-1000].std() < 1e-3 * letters["a"].std()
