from pathlib import Path

import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae import audio
from vcvae.convert.encoder import padded_mel
from vcvae.convert.guidance import Guidance, guide
from vcvae.convert.source import analyze_source
from vcvae.models.conversion.difference import WeightDifference

EGS = Path(__file__).parents[2] / "egs" / "convert"


def test_guided_is_farther_from_the_source():
    decoded, source = torch.randn(1, 80, 50), torch.randn(1, 80, 50)
    guidance = Guidance(source_voice=None)
    torch.testing.assert_close(guidance.guided(decoded, decoded), decoded)
    moved = guidance.guided(decoded, source)
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
        analysis = analyze_source([source], released.encode, released.mel_config, name="the source")
        corrected, guidance = guide(released, voice, analysis)
        f0 = released.target_f0(analysis.encoded.f0, analysis.f0_statistics, voice)
        plain = released.synthesize(released.decode(analysis.encoded, voice, f0), f0)
        away, both = (
            released.synthesize(released.decode(analysis.encoded, target_voice, f0, guidance), f0)
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
    analysis = analyze_source([source], released.encode, released.mel_config, name="the source")
    no_network_is_loaded = None
    assert guide(no_network_is_loaded, learned, analysis) == (learned, None)
