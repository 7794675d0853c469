"""Griffin-Lim: the inverted mel against librosa's, its seed, and the alignment of the output."""

import librosa
import pytest
import torch
from torch.nn import functional as F

from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.vocoder import GriffinLim
from vcvae.vocoder.griffin_lim import invert_mel

CONFIG = MelConfig()


def voice(seconds: float = 1.0, f0: float = 120.0) -> torch.Tensor:
    """A gliding harmonic tone whose syllables begin and end four times a second, and noise: (1, samples)."""
    time = torch.arange(int(seconds * CONFIG.sample_rate)) / CONFIG.sample_rate
    phase = 2 * torch.pi * (f0 * time + 10 * time.square())
    tone = sum(torch.sin(k * phase) / k for k in range(1, 40))
    noise_part = 0.05 * torch.randn(time.shape, generator=torch.Generator().manual_seed(0))
    return (0.1 * (tone + noise_part) * torch.sin(4 * torch.pi * time).square())[None]


def noise(samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))


def magnitudes(samples: torch.Tensor) -> torch.Tensor:
    """(batch, bins, frames) on the frames of the mel, without what lies above its highest band."""
    pad = (CONFIG.n_fft - CONFIG.hop) // 2
    padded = F.pad(samples[:, None], (pad, pad), mode="reflect")[:, 0]
    window = torch.hann_window(CONFIG.window)
    spectrum = torch.stft(padded, CONFIG.n_fft, CONFIG.hop, window=window, center=False, return_complex=True)
    audible = torch.fft.rfftfreq(CONFIG.n_fft, 1 / CONFIG.sample_rate) < CONFIG.f_max
    return spectrum.abs() * audible[:, None]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Spectral convergence: the relative error in the Frobenius norm."""
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("frames", [1, 2, 3, 50])
@pytest.mark.parametrize(
    "config",
    [CONFIG, MelConfig(sample_rate=16000, n_fft=512, window=400, hop=160, n_mels=40, f_max=7600)],
    ids=["default", "16k"],
)
def test_griffin_lim_output_is_frames_times_hop(config, frames):
    samples = GriffinLim(config, iterations=2)(torch.zeros(2, config.n_mels, frames))
    assert samples.shape == (2, frames * config.hop)
    assert samples.isfinite().all()


def test_griffin_lim_copy_has_the_mel_at_the_same_times():
    mel = MelSpectrogram()
    recorded = mel(voice())
    copied = mel(GriffinLim()(recorded))

    def error(shift):
        return (copied[..., 2 + shift : copied.shape[-1] - 2 + shift] - recorded[..., 2:-2]).abs().mean()

    assert error(0) < 0.15
    assert error(0) < 0.5 * min(error(-1), error(1))


def test_griffin_lim_output_is_aligned_to_a_fraction_of_a_hop():
    centre = 20 * CONFIG.hop + 77
    samples = torch.zeros(1, 40 * CONFIG.hop)
    samples[0, centre - 1000 : centre + 1000] = torch.hann_window(2000) * torch.sin(0.2 * torch.arange(2000))
    energy = GriffinLim()(MelSpectrogram()(samples))[0].square()
    centroid = (energy * torch.arange(len(energy))).sum() / energy.sum()
    assert abs(centroid - centre) < CONFIG.hop / 8


def test_griffin_lim_gives_an_item_the_same_alone_and_in_a_batch():
    mel = MelSpectrogram()(torch.cat([voice(f0=100), voice(f0=200)]))
    vocoder = GriffinLim()
    torch.testing.assert_close(vocoder(mel)[1:], vocoder(mel[1:]), rtol=0, atol=1e-4)


def test_griffin_lim_depends_on_its_seed_alone():
    mel = MelSpectrogram()(voice())
    state = torch.random.get_rng_state()
    first = GriffinLim()(mel)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(GriffinLim()(mel), first)
    assert not torch.equal(GriffinLim(seed=1)(mel), first)


def test_griffin_lim_is_silent_above_the_highest_band():
    samples = GriffinLim()(MelSpectrogram()(noise(22050)))
    spectrum = torch.fft.rfft(samples).abs().square()[0]
    above = torch.fft.rfftfreq(samples.shape[-1], 1 / CONFIG.sample_rate) > CONFIG.f_max + 100
    assert spectrum[above].mean() < 1e-4 * spectrum[~above].mean()


def test_griffin_lim_gives_a_constant_mel_no_buzz_at_the_frame_rate():
    mel = MelSpectrogram()(noise(65536)).mean(dim=-1, keepdim=True).expand(-1, -1, 256)
    phase_in_hop = GriffinLim()(mel).view(-1, 8, CONFIG.hop // 8).square().mean(dim=(0, 2))
    assert phase_in_hop.max() < 1.3 * phase_in_hop.min()  # 3 from phases of zero


def test_invert_mel_is_nearer_than_least_squares():
    magnitude = magnitudes(voice())
    filters = MelSpectrogram().filters
    mel = filters @ magnitude
    inverted = invert_mel(mel, filters)
    least_squares = librosa.feature.inverse.mel_to_stft(
        mel[0].numpy(), sr=CONFIG.sample_rate, n_fft=CONFIG.n_fft, power=1.0, fmin=0, fmax=CONFIG.f_max
    )
    least_squares = torch.from_numpy(least_squares)[None]
    assert (inverted >= 0).all()
    assert (inverted[:, filters.sum(dim=0) == 0] == 0).all()
    assert distance(filters @ inverted, mel) < min(0.01, distance(filters @ least_squares, mel))
    assert distance(inverted, magnitude) < distance(least_squares, magnitude)
