import math

import pytest
import torch

from tests.synthetic import speak
from vcvae.augment.voice import VoiceAugmentation, VoiceAugmentationConfig
from vcvae.features.cepstrum import cepstrum, from_cepstrum
from vcvae.features.mel import MelConfig, MelSpectrogram

MEL = MelConfig()
NONE = {"probability": 1.0, "warp": 0.0, "formant_tilt": 0.0, "equalizer": 0.0}


@pytest.fixture
def mel():
    """Two segments of each of three speakers, segment-major."""
    utterances = [speak(words, f0=100 + 40 * k, seed=k) for words in ("aiueo", "oeuia") for k in range(3)]
    return MelSpectrogram(MEL)(torch.stack([torch.from_numpy(x) for x in utterances]))


def augment_voice(mel, valid_bands=None, *, seed=0, **config):
    torch.manual_seed(seed)
    valid_bands = torch.ones(len(mel), MEL.n_mels) if valid_bands is None else valid_bands
    return VoiceAugmentation(VoiceAugmentationConfig(**NONE | config), MEL, segments=2)(mel, valid_bands)


def test_voice_augmentation_is_the_identity_at_zero(mel):
    same, valid_bands, augmented = augment_voice(mel, probability=0.0, warp=0.2, equalizer=3.0)
    torch.testing.assert_close(same, mel)
    assert valid_bands.all()
    assert not augmented.any()
    torch.testing.assert_close(augment_voice(mel)[0], mel, atol=1e-4, rtol=0)


def test_voice_augmentation_changes_all_segments_of_some_speakers(mel):
    many = mel.repeat_interleave(40, dim=0)
    changed, _, augmented = augment_voice(many, probability=0.5, warp=0.2)
    first, second = augmented.chunk(2)
    assert (first == second).all()
    assert 0.3 < first.float().mean() < 0.7
    touched = (changed != many).flatten(1).any(dim=1)
    assert (touched == augmented).all()


def test_voice_augmentation_filters_each_speaker_differently(mel):
    curves = (augment_voice(mel, equalizer=4.0)[0] - mel).mean(dim=2)
    torch.testing.assert_close(curves[:3], curves[3:], atol=1e-3, rtol=0)
    assert (curves[0] - curves[1]).abs().mean() > 0.05
    assert curves.diff(dim=1).abs().mean() < 0.1 * curves.std()  # smooth


def test_voice_augmentation_warps_formants_and_keeps_f0(mel):
    torch.manual_seed(3)
    factor = math.exp(torch.empty(3, 1).uniform_(-1, 1)[0, 0].item() * math.log(1.25))
    assert abs(math.log(factor)) > 0.1
    changed = augment_voice(mel, seed=3, warp=0.25)[0]
    other = MelSpectrogram(MEL)(torch.from_numpy(speak("aiueo", f0=100, tract=1 / factor, seed=0))[None])[0]

    def distance(a, b):
        return (cepstrum(a)[1:13] - cepstrum(b)[1:13]).abs().mean()

    assert distance(changed[0], other) < 0.6 * distance(mel[0], other)
    grain = [x - from_cepstrum(cepstrum(x), MEL.n_mels) for x in (mel, changed)]
    torch.testing.assert_close(*(x[:, :30] for x in grain), atol=0.35, rtol=0)


def test_voice_augmentation_keeps_invalid_bands_invalid(mel):
    valid_bands = torch.ones(6, MEL.n_mels)
    valid_bands[:, 70:] = 0
    changed, filled, _ = augment_voice(mel, valid_bands, warp=0.2, seed=1)
    counts = filled.sum(dim=1)
    assert (counts[:3] == counts[3:]).all()
    assert counts.min() < 70
    assert len(counts.unique()) > 1
    # Their content has no effect.
    noisy = mel.clone()
    noisy[:, 70:] = 5.0
    torch.testing.assert_close(
        (augment_voice(noisy, valid_bands, warp=0.2, seed=1)[0] - changed)[:, :60],
        torch.zeros(6, 60, mel.shape[2]),
        atol=1e-4,
        rtol=0,
    )
