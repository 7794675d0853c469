"""The mel front end against librosa, and the properties that other modules rely on."""

import math

import librosa
import numpy as np
import pytest
import torch

from vcvae.errors import VcvaeError
from vcvae.features.mel import MEL_MEAN, MelConfig, MelSpectrogram, level, normalize_level, standardize, valid_band_mask

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
def test_mel_equals_librosa(samples, config):
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


def test_mel_shifts_by_a_frame_with_a_hop():
    samples = noise(1, 64 * CONFIG.hop)
    mel = MelSpectrogram()
    before, after = mel(samples[:, : -CONFIG.hop]), mel(samples[:, CONFIG.hop :])
    inner = slice(2, -2)  # the frames that see no reflected edge
    torch.testing.assert_close(before[..., 1:][..., inner], after[..., :-1][..., inner], rtol=0, atol=1e-3)


def test_mel_rises_by_the_logarithm_of_a_gain():
    samples = noise(1, 22050)
    mel = MelSpectrogram()
    torch.testing.assert_close(mel(0.5 * samples), mel(samples) + math.log(0.5), rtol=0, atol=1e-4)


def test_mel_of_silence_is_the_floor():
    assert torch.equal(MelSpectrogram()(torch.zeros(1, 4096)), torch.full((1, 80, 16), CONFIG.floor).log())


def test_mel_frames_are_centred_on_their_hop():
    samples = torch.zeros(1, 32 * CONFIG.hop)
    samples[0, 10 * CONFIG.hop + CONFIG.hop // 2] = 1.0
    assert MelSpectrogram()(samples)[0].mean(dim=0).argmax() == 10


def test_mel_of_an_item_does_not_depend_on_its_batch():
    samples = noise(3, 10_000)
    mel = MelSpectrogram()
    torch.testing.assert_close(mel(samples)[1:2], mel(samples[1:2]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [385, 511, 512, 513, 5119, 5120, 5121, 22051])
def test_mel_has_samples_over_hop_frames(samples):
    assert MelSpectrogram()(noise(1, samples)).shape == (1, CONFIG.n_mels, samples // CONFIG.hop)


def test_mel_accepts_the_minimum_length_and_refuses_less():
    shortest = CONFIG.minimum_samples
    assert MelSpectrogram()(noise(1, shortest)).shape == (1, 80, 1)
    with pytest.raises(VcvaeError, match=r"^0\.0174 s of audio is too short .* at least 0\.0175 s\.$"):
        MelSpectrogram()(noise(1, shortest - 1))


def test_mel_gradient_is_finite_in_silence():
    samples = torch.cat([torch.zeros(1, 4096), noise(1, 4096)], dim=1).requires_grad_()
    MelSpectrogram()(samples).sum().backward()
    assert samples.grad.isfinite().all()


def test_mel_has_no_saved_state():
    assert not MelSpectrogram().state_dict()


def test_config_require_equal_names_the_field_and_both_values():
    CONFIG.require_equal(MelConfig(), ours="a", theirs="b")
    for name, value in {"hop": 300, "f_max": 11025.0, "n_mels": 100, "floor": 1e-7}.items():
        other = MelConfig(**{name: value})
        with pytest.raises(VcvaeError, match=rf"of mine and of yours differ in '{name}' \(.* and {value}\)"):
            CONFIG.require_equal(other, ours="mine", theirs="yours")


def test_config_names_unknown_keys_and_wrong_values():
    with pytest.raises(VcvaeError, match=r"^mel.yaml: unknown key 'hop_size'; did you mean 'hop'\?$"):
        MelConfig.parse({"hop_size": 256}, context="mel.yaml")
    with pytest.raises(VcvaeError, match=r"^mel.yaml: 'hop' is wrong: .* \(it is 0\)\.$"):
        MelConfig.parse({"hop": 0}, context="mel.yaml")


def test_valid_band_mask_ends_at_the_bandwidth():
    valid_bands = valid_band_mask(torch.tensor([3000.0, 7750.0, 11025.0]), MelConfig())
    assert valid_bands.sum(dim=1).tolist()[1:] == [80, 80]
    assert 45 < valid_bands[0].sum() < 60
    assert (valid_bands[0].diff() <= 0).all()


def test_normalize_level_measures_the_level_of_the_lowest_bands_and_of_unmasked_frames():
    mel = torch.randn(2, 80, 30, generator=torch.Generator().manual_seed(0)) - 4
    normalized, gain = normalize_level(mel, 60)
    assert gain.shape == (2, 1, 1)
    torch.testing.assert_close(gain[:, 0, 0], 0.5 * torch.exp(2 * mel[:, :60]).sum(1).mean(1).log())
    torch.testing.assert_close(normalized + gain, mel)
    torch.testing.assert_close(level(normalized[:, :60]), torch.zeros(2, 1, 1), atol=1e-5, rtol=0)
    changed = mel.clone()
    changed[:, 60:] += 3
    changed[:, :, 20:] += 3
    mask = (torch.arange(30) < 20).float().expand(2, 30)[..., None]
    torch.testing.assert_close(normalize_level(changed, 60, mask)[1], normalize_level(mel[..., :20], 60)[1])


def test_standardize_is_zero_at_the_mean():
    torch.testing.assert_close(standardize(torch.tensor([MEL_MEAN, 0.0])), torch.tensor([0.0, 2.25]))


@pytest.mark.parametrize("change", [{"hop": 2}, {"sample_rate": 384_000}, {"n_fft": 65_536}])
def test_config_of_a_mel_that_takes_gigabytes_is_refused(change):
    with pytest.raises(VcvaeError, match=r"^mel.yaml: .*(hop must be|n_fft)"):
        MelConfig.parse(change, context="mel.yaml")
