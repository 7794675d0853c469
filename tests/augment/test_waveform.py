import pytest
import torch

from vcvae.augment.waveform import CorruptionConfig, amplify, coloured_noise, corrupt, mask, reverberate

RATE = 16000
NOTHING = {"noise": 0.0, "babble": 0.0, "reverberation": 0.0}


def tones(batch=3):
    torch.manual_seed(0)
    frequency = torch.tensor([200.0, 333.0, 500.0])[:batch, None]
    return 0.3 * torch.sin(2 * torch.pi * frequency * torch.arange(RATE) / RATE)


def test_amplify_keeps_within_full_scale():
    samples = tones()
    torch.testing.assert_close(amplify(samples, (20.0, 30.0)).abs().amax(dim=1), torch.ones(3))
    torch.testing.assert_close(amplify(samples, (-20.0, -20.0)), 0.1 * samples)


def test_corrupt_and_mask_are_the_identity_at_zero():
    samples, mel, config = tones(), torch.randn(2, 80, 30), CorruptionConfig(**NOTHING)
    torch.testing.assert_close(corrupt(samples, config, sample_rate=RATE), samples)
    torch.testing.assert_close(mask(mel, config), mel)


@pytest.mark.parametrize("kind", ["noise", "babble"])
def test_corrupt_adds_sounds_at_the_snr(kind):
    samples = tones()
    config = CorruptionConfig(**NOTHING | {kind: 1.0}, snr=(5.0, 5.0))
    added = corrupt(samples, config, sample_rate=RATE) - samples
    ratio = 10 * torch.log10(samples.square().mean(1) / added.square().mean(1))
    torch.testing.assert_close(ratio, torch.full((3,), 5.0), atol=1e-3, rtol=0)
    if kind == "babble":
        assert abs(torch.corrcoef(torch.stack([added[1], samples[0]]))[0, 1]) == pytest.approx(1, abs=1e-4)


def test_coloured_noise_falls_by_at_most_six_decibels_per_octave():
    torch.manual_seed(0)
    power = torch.fft.rfft(coloured_noise(torch.zeros(200, 4096))).abs().square()
    slopes = 10 * torch.log10(power[:, 1000:1100].mean(1) / power[:, 100:110].mean(1)) / torch.log2(torch.tensor(10.0))
    assert -7.5 < slopes.min() < -4.5
    assert -1.5 < slopes.max() < 1.5


def test_reverberate_has_no_delay_and_the_reverberation_time():
    torch.manual_seed(0)
    click = torch.zeros(64, RATE)
    click[:, 0] = 1.0
    response = reverberate(click, (0.4, 0.4), sample_rate=RATE)
    torch.testing.assert_close(response[:, 0], torch.ones(64), atol=1e-4, rtol=0)

    def power(seconds):
        return response[:, round(seconds * RATE) : round((seconds + 0.02) * RATE)].square().mean()

    assert 10 * torch.log10(power(0.05) / power(0.25)).item() == pytest.approx(60 * 0.2 / 0.4, abs=1.5)


def test_mask_is_an_interval_of_frames_and_one_of_bands():
    torch.manual_seed(0)
    mel = torch.randn(50, 40, 60)
    changed = mask(mel, CorruptionConfig(**NOTHING, gaps=1.0)) != mel
    for gap in changed:
        frames, bands = gap.all(dim=0), gap.all(dim=1)
        assert 1 <= frames.sum() <= 12
        assert 1 <= bands.sum() <= 8
        assert (gap == frames[None, :] | bands[:, None]).all()
        assert (frames.int().diff().abs().sum() + frames[0].int() + frames[-1].int()) == 2
    noisy = mask(torch.zeros(2, 80, 500), CorruptionConfig(**NOTHING, gaussian=0.5))
    assert noisy.std().item() == pytest.approx(0.5, rel=0.02)


def test_corruption_config_refuses_reversed_ranges():
    for wrong in ({"snr": (5, 0)}, {"decay": (0.5, 0.2)}, {"decay": (-0.1, 0.2)}):
        with pytest.raises(ValueError, match=r"must rise|greater than 0"):
            CorruptionConfig(**wrong)
