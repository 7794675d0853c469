import math

import numpy as np
import pytest
import torch

from vcvae.convert.source import EXCERPT_FRAMES, MIN_EXCERPT_FRAMES, EncodedSource, Loudest, analyze_source
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour
from vcvae.features.mel import MelConfig

CONFIG = MelConfig()
FLOOR = math.log(CONFIG.floor)


def numbered(mel):
    """A block of this mel whose F0 and other values are the mel frames' numbers."""
    frames = mel.shape[2]
    half = torch.arange(0, frames, 2, dtype=torch.float32)[None]
    samples = np.arange(frames, dtype=np.float32).repeat(CONFIG.hop)
    return EncodedSource(samples, mel, F0Contour(half, torch.ones_like(half)))


def mel(*stretches):
    """Ln-mel of stretches (frames, level above the floor)."""
    return torch.cat([torch.full((1, CONFIG.n_mels, frames), FLOOR + level) for frames, level in stretches], dim=2)


def test_excerpt_is_the_stretch_with_the_most_sound():
    loudest = Loudest(CONFIG)
    for block in (mel((600, 1)), mel((300, 0), (EXCERPT_FRAMES + 1, 6), (301, 0)), mel((500, 2), (20, 9))):
        loudest.add(numbered(block))
    excerpt = loudest.excerpt
    torch.testing.assert_close(excerpt.mel, mel((EXCERPT_FRAMES, 6)))
    assert excerpt.samples[0] == excerpt.f0.log_f0[0, 0] == 300
    assert len(excerpt.samples) == EXCERPT_FRAMES * CONFIG.hop
    assert excerpt.f0.log_f0.shape[1] == EXCERPT_FRAMES // 2


def test_excerpt_starts_with_a_frame_of_f0():
    loudest = Loudest(CONFIG)
    loudest.add(numbered(mel((301, 0), (EXCERPT_FRAMES, 6), (301, 0))))
    assert loudest.excerpt.samples[0] == loudest.excerpt.f0.log_f0[0, 0] == 300


def test_excerpt_is_none_of_silence_or_too_little():
    loudest = Loudest(CONFIG)
    for block in (mel((900, 0)), mel((MIN_EXCERPT_FRAMES - 1, 8))):
        loudest.add(numbered(block))
    assert loudest.excerpt is None


def encode(samples):
    """Samples, whose values are the level and the log-F0 of the mel."""
    values = torch.from_numpy(samples[:: CONFIG.hop])
    log_f0 = values[None, ::2]
    mel = (FLOOR + values).repeat(1, CONFIG.n_mels, 1)
    return EncodedSource(samples, mel, F0Contour(log_f0, torch.ones_like(log_f0)))


def test_analyze_source_is_of_all_blocks():
    samples = np.linspace(1, 2, 400 * CONFIG.hop, dtype=np.float32)
    blocks = [samples[: 200 * CONFIG.hop], samples[200 * CONFIG.hop :], samples[: CONFIG.minimum_samples - 1]]
    analysis = analyze_source(blocks, encode, CONFIG, name="a.wav")
    whole = encode(samples)
    torch.testing.assert_close(analysis.f0_statistics, whole.f0.statistics())
    torch.testing.assert_close(analysis.excerpt.mel, whole.mel[..., 200:])
    assert analysis.encoded is None


def test_analyze_source_keeps_a_single_block():
    samples = np.ones(100 * CONFIG.hop, np.float32)
    analysis = analyze_source([samples], encode, CONFIG, name="a.wav")
    assert analysis.encoded.samples is samples
    torch.testing.assert_close(analysis.excerpt.mel, analysis.encoded.mel)


@pytest.mark.parametrize("blocks", [[], [np.ones(CONFIG.minimum_samples - 1, np.float32)]])
def test_analyze_source_refuses_what_is_too_short(blocks):
    with pytest.raises(VcvaeError, match=r"a\.wav: .* too short"):
        analyze_source(blocks, encode, CONFIG, name="a.wav")
