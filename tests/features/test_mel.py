"""The mel front end against librosa, and the properties that the rest of the package counts on."""

import math

import librosa
import numpy as np
import pytest
import torch

from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig, MelSpectrogram, valid_band_mask

CONFIG = MelConfig()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def chirp() -> torch.Tensor:
    """A second that sweeps from 0 to 10 kHz, 50 dB above noise (in which rounding drowns): (1, samples)."""
    time = torch.arange(22050) / 22050
    return 0.3 * torch.sin(2 * torch.pi * 5000 * time.square()) + 0.01 * noise(1, 22050)


@pytest.mark.parametrize("samples", [noise(1, 22050), chirp()], ids=["noise", "chirp"])
@pytest.mark.parametrize(
    "config",
    [CONFIG, MelConfig(sample_rate=16000, n_fft=512, window=400, hop=160, n_mels=40, f_min=50, f_max=7600)],
    ids=["default", "16k"],
)
def test_equals_librosa(samples, config):
    padded = np.pad(samples[0].numpy(), (config.n_fft - config.hop) // 2, mode="reflect")
    expected = librosa.feature.melspectrogram(
        y=padded,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        win_length=config.window,
        hop_length=config.hop,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        center=False,
        power=1.0,
    )
    actual = MelSpectrogram(config)(samples)[0].numpy()
    assert np.abs(actual - np.log(np.maximum(expected, config.floor))).max() < 1e-3


def test_a_shift_by_a_hop_is_a_shift_by_a_frame():
    samples = noise(1, 64 * CONFIG.hop)
    mel = MelSpectrogram()
    before, after = mel(samples[:, : -CONFIG.hop]), mel(samples[:, CONFIG.hop :])
    inner = slice(2, -2)  # the frames that see no reflected edge
    torch.testing.assert_close(before[..., 1:][..., inner], after[..., :-1][..., inner], rtol=0, atol=1e-3)


def test_gain_adds_its_logarithm_above_the_floor():
    samples = noise(1, 22050)
    mel = MelSpectrogram()
    torch.testing.assert_close(mel(0.5 * samples), mel(samples) + math.log(0.5), rtol=0, atol=1e-4)


def test_silence_is_the_floor():
    assert torch.equal(MelSpectrogram()(torch.zeros(1, 4096)), torch.full((1, 80, 16), CONFIG.floor).log())


def test_a_click_is_loudest_in_the_frame_centred_on_it():
    samples = torch.zeros(1, 32 * CONFIG.hop)
    samples[0, 10 * CONFIG.hop + CONFIG.hop // 2] = 1.0
    assert MelSpectrogram()(samples)[0].mean(dim=0).argmax() == 10


def test_an_item_is_the_same_alone_and_in_a_batch():
    samples = noise(3, 10_000)
    mel = MelSpectrogram()
    torch.testing.assert_close(mel(samples)[1:2], mel(samples[1:2]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [385, 511, 512, 513, 5119, 5120, 5121, 22051])
def test_frames_are_samples_over_hop(samples):
    assert MelSpectrogram()(noise(1, samples)).shape == (1, CONFIG.n_mels, samples // CONFIG.hop)


def test_the_shortest_signal_is_accepted_and_a_shorter_one_refused_in_seconds():
    shortest = CONFIG.minimum_samples
    assert MelSpectrogram()(noise(1, shortest)).shape == (1, 80, 1)
    with pytest.raises(VcvaeError, match=r"^0\.0174 s of audio is too short .* at least 0\.0175 s\.$"):
        MelSpectrogram()(noise(1, shortest - 1))


def test_the_gradient_is_finite_even_in_silence():
    samples = torch.cat([torch.zeros(1, 4096), noise(1, 4096)], dim=1).requires_grad_()
    MelSpectrogram()(samples).sum().backward()
    assert samples.grad.isfinite().all()


def test_nothing_is_saved_with_the_weights():
    assert not MelSpectrogram().state_dict()


def test_require_equal_names_the_field_and_both_values():
    CONFIG.require_equal(MelConfig(), ours="a", theirs="b")
    for name, value in {"hop": 300, "f_max": 11025.0, "n_mels": 100, "floor": 1e-7}.items():
        other = MelConfig(**{name: value})
        with pytest.raises(VcvaeError, match=rf"of mine and of yours differ in '{name}' \(.* and {value}\)"):
            CONFIG.require_equal(other, ours="mine", theirs="yours")


def test_an_unknown_key_and_a_wrong_value_are_named():
    with pytest.raises(VcvaeError, match=r"^mel.yaml: unknown key 'hop_size'; did you mean 'hop'\?$"):
        MelConfig.parse({"hop_size": 256}, where="mel.yaml")
    with pytest.raises(VcvaeError, match=r"^mel.yaml: 'hop' is wrong: .* \(it is 0\)\.$"):
        MelConfig.parse({"hop": 0}, where="mel.yaml")


def test_known_bands_end_at_the_bandwidth():
    valid_bands = valid_band_mask(torch.tensor([3000.0, 7750.0, 11025.0]), MelConfig())
    assert valid_bands.sum(dim=1).tolist()[1:] == [80, 80]
    assert 45 < valid_bands[0].sum() < 60
    assert (valid_bands[0].diff() <= 0).all()
