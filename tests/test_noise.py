import math

import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae.mel import MelConfig, MelSpectrogram
from vcvae.noise import without_noise

CONFIG = MelConfig()


def mel_of(samples: np.ndarray) -> torch.Tensor:
    return MelSpectrogram(CONFIG)(torch.from_numpy(samples[: len(samples) // 256 * 256]).float()[None])


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Two seconds of speech between pauses of .3 s."""
    pause = np.zeros(6615, np.float32)
    return np.concatenate([pause, speak("aiueo", pitch=140, seconds=1.0, seed=1), pause, speak("oeu", seed=2), pause])


@pytest.mark.parametrize("below", [15, 25])
def test_noise_is_taken_out_of_a_mel(speech, below):
    """What is left is nearer to the mel of the speech alone, in pauses by most of what may be taken away."""
    noise = np.random.default_rng(0).standard_normal(len(speech)) * speech.std() * 10 ** (-below / 20)
    clean, noisy = mel_of(speech), mel_of(speech + noise.astype(np.float32))
    better = without_noise(noisy)
    audible = clean.maximum(noisy.amin())
    assert (better - audible).abs().mean() < 0.75 * (noisy - audible).abs().mean()
    assert (noisy - better)[:, :, 5:20].mean() > 0.7 * math.log(10) * 12 / 20
    loud = clean > noisy.median() + 2
    assert (better - clean)[loud].abs().mean() < 0.1


def test_what_has_silent_pauses_stays_as_it_is(speech):
    mel = mel_of(speech)
    change = (without_noise(mel) - mel).abs()
    assert change[mel > -9].max() < 0.05
    assert change.mean() < 0.005


def test_nothing_gets_louder_or_much_quieter():
    mel = mel_of(np.random.default_rng(0).standard_normal(22050).astype(np.float32) / 10)
    change = without_noise(mel) - mel
    assert change.max() <= 1e-6
    assert change.min() >= -math.log(10) * 12 / 20 - 1e-5


def test_loudness_does_not_matter_and_items_are_apart(speech):
    mel = mel_of(speech + 0.01 * np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32))
    torch.testing.assert_close(without_noise(mel + 3), without_noise(mel) + 3, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        without_noise(torch.cat([mel, mel + 1])), torch.cat([without_noise(mel + k) for k in (0, 1)])
    )


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_the_shortest_mels_are_no_error(frames):
    mel = torch.randn(1, 80, frames, generator=torch.Generator().manual_seed(0))
    assert without_noise(mel).isfinite().all()
