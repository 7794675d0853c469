import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae import audio
from vcvae.convert.encoder import padded_mel
from vcvae.convert.guidance import EXCERPT_FRAMES, MIN_EXCERPT_FRAMES, Excerpt, guide, guided
from vcvae.features.f0 import F0Contour
from vcvae.features.mel import MelConfig
from vcvae.models.conversion.difference import WeightDifference

EGS = Path(__file__).parents[2] / "egs" / "convert"
CONFIG = MelConfig()
FLOOR = math.log(CONFIG.floor)


def contour(frames):
    """An F0 contour whose values are the frames' numbers."""
    half = torch.arange(0, frames, 2, dtype=torch.float32)[None]
    return F0Contour(half, torch.ones_like(half))


def mel(*stretches):
    """Ln-mel of stretches (frames, level above the floor)."""
    return torch.cat([torch.full((1, CONFIG.n_mels, frames), FLOOR + level) for frames, level in stretches], dim=2)


def test_excerpt_is_the_stretch_with_the_most_sound():
    excerpt = Excerpt(CONFIG)
    for block in (mel((600, 1)), mel((300, 0), (EXCERPT_FRAMES + 1, 6), (301, 0)), mel((500, 2), (20, 9))):
        excerpt.add(block, contour(block.shape[2]))
    torch.testing.assert_close(excerpt.mel, mel((EXCERPT_FRAMES, 6)))
    assert excerpt.f0.log_f0[0, 0] == 300
    assert excerpt.f0.log_f0.shape[1] == EXCERPT_FRAMES // 2


def test_excerpt_is_none_of_silence_or_too_little():
    excerpt = Excerpt(CONFIG)
    for block in (mel((900, 0)), mel((MIN_EXCERPT_FRAMES - 1, 8))):
        excerpt.add(block, contour(block.shape[2]))
    assert excerpt.mel is None
    assert excerpt.f0 is None


def test_guided_is_farther_from_the_source():
    decoded, source = torch.randn(1, 80, 50), torch.randn(1, 80, 50)
    torch.testing.assert_close(guided(decoded, decoded), decoded)
    moved = guided(decoded, source)
    assert (moved - source).norm() > (decoded - source).norm()
    assert torch.cosine_similarity((moved - source).flatten(), (decoded - source).flatten(), dim=0) == pytest.approx(1)


@torch.inference_mode()
def test_guide_brings_conversions_nearer_to_the_target_and_away_from_the_source(released):
    rate = released.mel_config.sample_rate
    recordings = [audio.read(EGS / f"{name}.flac", rate)[: 5 * rate] for name in ("source", "target")]

    def statistics_of(samples):
        mel = padded_mel(released.spectrogram, samples.astype(np.float32))
        return torch.nn.functional.normalize(released.speaker_net(mel)[0] - released.model.statistics.centre, dim=0)

    gains = []
    for source, target in (recordings, recordings[::-1]):
        voice = released.voice([target])
        f0_statistics, excerpt, encoded = released._survey("the source", iter([source]))
        corrected, source_voice = guide(released, voice, excerpt, f0_statistics)
        f0 = released.target_f0(encoded.f0, f0_statistics, voice)
        plain = released.synthesize(released.decode(encoded.mel, voice, f0), f0)
        away, both = (
            released.synthesize(released.decode(encoded.mel, target_voice, f0, source_voice=source_voice), f0)
            for target_voice in (voice, corrected)
        )
        nearer = (statistics_of(both) - statistics_of(plain)) @ statistics_of(target)
        farther = (statistics_of(plain) - statistics_of(away)) @ statistics_of(source)
        gains.append([float(nearer), float(farther)])
    nearer, farther = np.mean(gains, axis=0)
    assert nearer > 0
    assert farther > 0.01


def test_guide_leaves_a_voice_that_was_learned(released):
    source = speak("aiso", f0=110, seconds=1.5)
    decoder = released.model.decoder
    voice = released.voice([source])
    learned = type(voice)(
        voice.reference, voice.f0_statistics, voice.valid_bands, WeightDifference.between(decoder, decoder)
    )
    statistics, excerpt, _ = released._survey("the source", iter([source]))
    no_network_is_loaded = None
    assert guide(no_network_is_loaded, learned, excerpt, statistics) == (learned, None)
