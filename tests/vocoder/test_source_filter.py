import copy

import pytest
import torch

from tests.synthetic import speak
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour, yin
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.features.stft import minimum_phase, moving_average
from vcvae.vocoder import SourceFilterVocoder, SourceFilterVocoderConfig, load_vocoder
from vcvae.vocoder.filters import CORRECTION_FRAMES, SMOOTHING_BAND

SMALL = SourceFilterVocoderConfig(channels=16, blocks=2, f0_channels=8, f0_blocks=1)


@pytest.fixture
def vocoder():
    torch.manual_seed(0)
    return SourceFilterVocoder(SMALL).eval()


@pytest.fixture
def mel():
    """Two utterances, (2, 80, 120)."""
    samples = torch.stack([torch.from_numpy(speak("aisoe", f0=f, seconds=1.5)) for f in (110, 210)])
    return MelSpectrogram()(samples[:, : 120 * 256])


def test_source_filter_defaults_are_small():
    model = SourceFilterVocoder()
    assert sum(p.numel() for p in model.parameters()) <= 4e6
    assert sum(v.numel() for v in model.state_dict().values()) * 2 <= 8e6  # bytes of float16


def test_source_filter_reproduces_the_mel_untrained(vocoder, mel):
    """The gains come from the mel."""
    torch.nn.init.zeros_(vocoder.head.linear.weight)
    again = MelSpectrogram()(vocoder(mel))
    loud = mel > mel.amax() - 5
    assert (again - mel)[loud].abs().mean() < 0.7
    assert (again - mel)[loud].mean().abs() < 0.5


def rendered(vocoder, **steps):
    """The same network in another post_processing."""
    other = copy.copy(vocoder)
    other.post_processing = vocoder.post_processing.model_copy(update=steps)
    return other


def test_for_predicted_mels_changes_the_post_processing_and_shares_the_weights(vocoder):
    """The copy shares the weights."""
    other = vocoder.for_predicted_mels()
    assert (vocoder.post_processing, other.post_processing) == (SMALL.ground_truth, SMALL.predicted)
    assert SMALL.ground_truth != SMALL.predicted
    assert [id(p) for p in other.parameters()] == [id(p) for p in vocoder.parameters()]


def test_griffin_lim_iterations_reduce_the_mel_error(vocoder, mel):
    def error(iterations):
        return (MelSpectrogram()(rendered(vocoder, griffin_lim_iterations=iterations)(mel)) - mel).abs().mean()

    assert error(1) < 0.85 * error(0)
    assert error(2) < 0.98 * error(1)


def test_gain_iterations_reduce_the_slow_mel_error(vocoder, mel):
    def slow_error(iterations):
        again = MelSpectrogram()(rendered(vocoder, gain_iterations=iterations, griffin_lim_iterations=0)(mel))
        return moving_average(again - mel, CORRECTION_FRAMES)

    error_0 = slow_error(0)
    error_1 = slow_error(1)
    error_2 = slow_error(2)
    assert error_1.abs().mean() < 0.85 * error_0.abs().mean()
    assert error_2.abs().mean() < 0.98 * error_1.abs().mean()


def test_correct_gains_adds_the_slow_mel_error_and_keeps_the_phases(vocoder, mel):
    contour = vocoder.f0.decode(*vocoder.f0_logits(mel)).per_frame(120)
    filters = vocoder.predict_filters(mel, contour)
    *louder, turn = vocoder.head.correct_gains(filters, torch.full_like(mel, 0.3))
    torch.testing.assert_close(turn, filters[3], atol=0, rtol=0)
    for before, after in zip(filters[:3], louder, strict=True):
        torch.testing.assert_close(after, before + 0.3)
    fast = torch.zeros(CORRECTION_FRAMES).index_fill(0, torch.tensor([0]), 1.0) - 1 / CORRECTION_FRAMES
    *same, _ = vocoder.head.correct_gains(filters, fast.repeat(120 // CORRECTION_FRAMES).expand_as(mel))
    for before, after in zip(filters[:3], same, strict=True):
        torch.testing.assert_close(after[:, 12:-12], before[:, 12:-12])


def test_gain_smoothing_changes_the_low_pulse_gains_and_phases_only(vocoder, mel):
    """Their lower gains are means of their neighbours', and so is the direction of what is added to their phases."""
    contour = vocoder.f0.decode(*vocoder.f0_logits(mel)).per_frame(120)
    rough = rendered(vocoder, gain_smoothing=1).predict_filters(mel, contour)
    smooth = rendered(vocoder, gain_smoothing=3).predict_filters(mel, contour)
    frequencies = torch.linspace(0, vocoder.mel_config.sample_rate / 2, rough[0].shape[2])
    low, high = frequencies < SMOOTHING_BAND[0], frequencies > SMOOTHING_BAND[1]
    torch.testing.assert_close(smooth[0][:, 7, low], rough[0][:, 6:9, low].mean(dim=1))
    torch.testing.assert_close(smooth[0][:, 0, low], (2 * rough[0][:, 0, low] + rough[0][:, 1, low]) / 3)
    torch.testing.assert_close(smooth[0][..., high], rough[0][..., high], atol=0, rtol=0)
    for before, after in zip(rough[1:3], smooth[1:3], strict=True):
        torch.testing.assert_close(after, before, atol=0, rtol=0)

    def added_direction(filters):
        return torch.polar(torch.ones_like(filters[0]), filters[3] - minimum_phase(filters[0]))

    directions = added_direction(rough)[:, 6:9].mean(dim=1)
    torch.testing.assert_close(added_direction(smooth)[:, 7] * directions.abs(), directions, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 3, 50])
def test_source_filter_takes_any_length(vocoder, frames):
    samples = vocoder(torch.randn(2, 80, frames) - 5)
    assert samples.shape == (2, frames * 256)
    assert samples.isfinite().all()


def test_source_filter_gives_a_mel_the_same_samples_again_and_in_a_batch(vocoder, mel):
    torch.manual_seed(1)
    batch = vocoder(mel)
    torch.manual_seed(2)
    torch.testing.assert_close(vocoder(mel[1:]), batch[1:], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("sizes", [[70, *[1] * 20, 30], [60, 60], [1, 59, 3, 57], [119, 1]])
@pytest.mark.parametrize("predicted", [False, True])
def test_stream_equals_one_call(vocoder, mel, sizes, predicted):
    vocoder, mel = vocoder.double(), mel.double()
    if predicted:
        vocoder = vocoder.for_predicted_mels()
    stream, pieces = vocoder.stream(), []
    for i, piece in enumerate(mel.split(sizes, dim=2)):
        pieces.append(stream.push(piece))
        given = sum(sizes[: i + 1])
        assert sum(p.shape[1] for p in pieces) == max(0, given - vocoder.reach) * 256
    pieces.append(stream.finish())
    torch.testing.assert_close(torch.cat(pieces, dim=1), vocoder(mel), atol=1e-7, rtol=0)


def test_synthesize_splits_a_long_mel(vocoder, mel, monkeypatch):
    vocoder = vocoder.double()
    whole = vocoder(mel.double())
    monkeypatch.setattr("vcvae.vocoder.source_filter.CHUNK_FRAMES", 50)
    torch.testing.assert_close(vocoder(mel.double()), whole, atol=1e-7, rtol=0)


def test_synthesize_takes_a_given_f0(vocoder, mel, monkeypatch):
    vocoder, mel = vocoder.double(), mel.double()
    own = vocoder.f0.decode(*vocoder.f0_logits(mel))
    whole = vocoder.synthesize(mel, own)
    torch.testing.assert_close(whole, vocoder(mel), atol=1e-7, rtol=0)
    other = vocoder.synthesize(mel, own.shift(0.5))
    assert (other - whole).abs().max() > 1e-3
    for size in (50, 7):
        monkeypatch.setattr("vcvae.vocoder.source_filter.CHUNK_FRAMES", size)
        torch.testing.assert_close(vocoder.synthesize(mel, own.shift(0.5)), other, atol=1e-7, rtol=0)


def test_synthesize_for_training_has_the_given_f0_and_a_gradient(mel):
    vocoder = load_vocoder()
    own = vocoder.f0.decode(*vocoder.f0_logits(mel))
    loud = mel > mel.amax() - 5
    assert (MelSpectrogram()(vocoder.synthesize_for_training(mel, own)) - mel)[loud].abs().mean() < 0.5
    flat = F0Contour(torch.full((2, 60), 7.5), torch.ones(2, 60))
    mel.requires_grad_()
    samples = vocoder.synthesize_for_training(mel, flat)
    measured = yin(samples.detach(), sample_rate=22050, hop=256)
    assert (measured.log_f0[measured.voicing > 0.5] - 7.5).abs().median() < 0.02
    assert not torch.equal(samples, vocoder.synthesize_for_training(mel, flat))  # noise and phase are random
    (gradient,) = torch.autograd.grad(samples.square().sum(), mel)
    assert (gradient.sum(dim=(1, 2)) > 0).all()


def test_stream_keeps_bounded_input(vocoder):
    stream = vocoder.stream()
    for _ in range(20):
        stream.push(torch.randn(1, 80, 50) - 5)
        assert stream.mel.shape[2] <= 50 + 2 * vocoder.reach + 1
    stream, f0 = vocoder.stream(), F0Contour(torch.full((1, 50), 7.0), torch.ones(1, 50))
    for _ in range(20):
        stream.push(torch.randn(1, 80, 50) - 5, f0)
        assert stream.f0.log_f0.shape[1] == stream.mel.shape[2]


@pytest.mark.parametrize(("gain_smoothing", "gain_iterations"), [(1, 0), (3, 1), (7, 2)])
def test_stream_reach_bounds_what_a_sample_depends_on(vocoder, mel, gain_smoothing, gain_iterations):
    vocoder = rendered(
        vocoder, gain_smoothing=gain_smoothing, gain_iterations=gain_iterations, griffin_lim_iterations=1
    )
    assert vocoder.reach < 58
    changed = mel.clone()
    changed[:, :, 60] += 1
    moved = (vocoder(changed) - vocoder(mel)).abs()[0].unflatten(0, (-1, 256)).amax(dim=1) > 1e-7
    # The pulses' phase goes on from the frames before, so only what lies before can be free of a change.
    assert not moved[: 60 - vocoder.reach].any()


@pytest.mark.parametrize("shape", [(80, 5), (1, 79, 5), (1, 80, 0)])
def test_source_filter_refuses_a_wrong_shape(vocoder, shape):
    with pytest.raises(VcvaeError, match="a mel must be"):
        vocoder(torch.zeros(shape))


def test_source_filter_is_the_same_after_saving_and_loading(vocoder, mel, tmp_path):
    vocoder.half().save_pretrained(tmp_path)
    loaded = load_vocoder(f"source-filter:{tmp_path}")
    torch.testing.assert_close(loaded(mel), vocoder.float()(mel), atol=1e-3, rtol=0)
    with pytest.raises(VcvaeError, match="differ in 'hop'"):
        load_vocoder(f"source-filter:{tmp_path}", MelConfig(hop=128))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kernel": 4}, "kernel must be odd"), ({"hop": 96}, "hop must divide"), ({"chanels": 3}, "'channels'")],
)
def test_source_filter_refuses_a_wrong_configuration(change, message):
    with pytest.raises(VcvaeError, match=message):
        SourceFilterVocoderConfig.parse(change, context="test")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_source_filter_on_a_gpu_is_as_on_a_cpu(vocoder, mel):
    expected = vocoder(mel)
    measured = vocoder.cuda()(mel.cuda()).cpu()
    torch.testing.assert_close(measured, expected, atol=1e-2, rtol=1e-2)
