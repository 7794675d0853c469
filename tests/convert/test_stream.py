import numpy as np
import pytest
import torch

from tests.synthetic import RATE, speak
from vcvae import audio
from vcvae.convert import stream as stream_module
from vcvae.convert.converter import Converter
from vcvae.convert.stream import Activity, Loudness, Stream
from vcvae.errors import VcvaeError
from vcvae.vocoder import GriffinLim


@pytest.fixture(autouse=True)
def one_typical_sentence(monkeypatch, sentences):
    """Two generated sentences, one of which gives the statistics to begin with."""
    monkeypatch.setattr(stream_module, "SENTENCES", sentences)


@pytest.fixture(scope="module")
def source():
    return speak("aisoeu", f0=110, seconds=1.6)


@pytest.fixture(scope="module")
def voice(released):
    return released.voice([speak("eoauis", f0=210, tract=1.15, seconds=2.0, seed=1)])


def convert(stream, source, sizes):
    """The pieces that come of a source cut into blocks of these sizes, over and over."""
    pieces, start, turn = [], 0, 0
    while start < len(source):
        size = sizes[turn % len(sizes)]
        pieces.append(stream.push(source[start : start + size]))
        start, turn = start + size, turn + 1
    return [*pieces, stream.finish()]


def mean_log_f0(converter, samples):
    return float(converter.voice([samples]).f0_statistics.mean)


@pytest.fixture(scope="module")
def converted(released, voice, source, sentences):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "SENTENCES", sentences)
        return np.concatenate(convert(released.stream(voice), source, [len(source)]))


def test_stream_gives_as_many_samples_as_it_takes(source, converted):
    assert converted.shape == source.shape
    assert converted.dtype == np.float32
    assert np.abs(converted).max() < 1


@pytest.mark.parametrize("sizes", [[441], [7, 5000, 300, 1]])
def test_stream_does_not_depend_on_how_its_source_is_cut(released, voice, source, converted, sizes):
    np.testing.assert_array_equal(np.concatenate(convert(released.stream(voice), source, sizes)), converted)


def test_stream_of_a_converter_on_another_device_is_computed_on_the_cpu(released, voice, source, converted):
    elsewhere = Converter(released.model, released.vocoder, device="cpu")
    elsewhere.device = torch.device("cuda")
    stream = Stream(elsewhere, voice)
    assert stream.converter.device.type == "cpu"
    assert stream.converter.model is not released.model
    np.testing.assert_array_equal(np.concatenate(convert(stream, source, [4096])), converted)


def test_stream_gives_each_sample_within_its_latency(released, voice, source):
    stream, taken, given = released.stream(voice), 0, 0
    assert stream.latency <= 0.2
    for start in range(0, len(source), 100):
        block = source[start : start + 100]
        taken += len(block)
        given += len(stream.push(block))
        assert given >= taken - stream.latency * RATE


def test_stream_does_not_depend_on_what_comes_later(released, voice, source, converted):
    stream = released.stream(voice)
    start = stream.push(source[:RATE])
    np.testing.assert_array_equal(start, converted[: len(start)])
    assert len(start) >= (1 - stream.latency) * RATE


@pytest.mark.slow
def test_stream_agrees_with_one_pass_in_the_end(released, voice):
    man = released.voice([speak("eoauis", f0=110, seconds=2.0, seed=2)])
    differences, unlike = [], []
    for f0, target in ((120, voice), (220, man)):
        long = speak("aisoeufa uio eisauo fiaso uei asofie u a", f0=f0, seconds=8.0, seed=3)
        streamed = np.concatenate(convert(released.stream(target), long, [4096]))
        whole, _ = released.convert(long, target)
        late = slice(5 * 86, None)
        source_mel, streamed_mel, whole_mel = (released.mel(x)[:, late] for x in (long, streamed, whole))
        loud = whole_mel > whole_mel.max() - 6
        differences.append(np.abs(streamed_mel - whole_mel)[loud])
        unlike.append(np.abs(source_mel - whole_mel)[loud])
        assert mean_log_f0(released, streamed[5 * RATE :]) == pytest.approx(mean_log_f0(released, whole), abs=0.15)
    assert np.concatenate(differences).mean() < 0.6 * np.concatenate(unlike).mean()


@pytest.mark.slow
def test_stream_is_as_loud_as_its_source_even_a_quiet_one(released, voice, clips):
    quiet = 0.05 * audio.read(clips / "source.wav", RATE)
    streamed = np.concatenate(convert(released.stream(voice), quiet, [4096]))
    ratio = streamed[RATE:].std() / quiet[RATE:].std()
    assert abs(20 * np.log10(ratio)) < 3


@pytest.mark.slow
def test_stream_is_silent_in_a_pause_and_before_speech(released, voice, source):
    silence = np.zeros(RATE, np.float32)
    streamed = np.concatenate(convert(released.stream(voice), np.concatenate([silence, source, silence]), [4096]))
    for start in (0, len(silence) + len(source)):
        pause = streamed[start + RATE // 4 : start + RATE - RATE // 8]
        assert np.abs(pause).max() < 1e-3  # 60 dB below full scale


@pytest.mark.slow
def test_stream_has_no_clicks_where_steps_meet(released, voice, clips):
    converted = np.concatenate(convert(released.stream(voice), audio.read(clips / "source.wav", RATE), [4096]))
    second_difference = np.abs(np.diff(converted, 2))
    hop = released.mel_config.hop
    first = 2 * hop - released.stream(voice)._vocoder.delay  # the first step is two frames
    borders = np.arange(first + stream_module.STEP * hop, len(second_difference) - 4, stream_module.STEP * hop)

    def mean_peak(offset):
        return np.stack([second_difference[borders + offset + i] for i in range(-3, 3)]).max(axis=0).mean()

    elsewhere = [mean_peak(offset) for offset in range(-960, 0, 40)]
    assert mean_peak(0) <= max(elsewhere)


@pytest.mark.slow
def test_stream_keeps_no_more_the_longer_it_runs(released, voice, source):
    def kept(stream):
        model, vocoder = stream._mel.shape[2], stream._vocoder._mel.shape[2]
        return len(stream._samples), model, len(stream._weight), len(stream._energies), vocoder

    stream = released.stream(voice)
    stream.push(source)
    early = kept(stream)
    step = stream_module.STEP * 256
    for _ in range(2):
        stream.push(np.resize(source, 4 * step))
        assert kept(stream) == early


@pytest.mark.slow
def test_stream_shifts_the_pitch(released, voice, source, converted):
    shifted = np.concatenate(convert(released.stream(voice, pitch_shift=6.0), source, [4096]))
    assert mean_log_f0(released, shifted) - mean_log_f0(released, converted) == pytest.approx(0.5, abs=0.15)


def test_stream_of_nothing_is_nothing(released, voice):
    stream = released.stream(voice)
    assert stream.push(np.zeros(0, np.float32)).shape == (0,)
    assert stream.finish().shape == (0,)


@pytest.mark.parametrize(
    "samples", [np.array([0.0, np.nan]), np.zeros((10, 2)), np.zeros(10, np.int16)], ids=["nan", "stereo", "integers"]
)
def test_stream_refuses_what_is_no_audio(released, voice, samples):
    with pytest.raises(VcvaeError, match="finite floating-point"):
        released.stream(voice).push(samples)


def test_stream_needs_the_source_filter_vocoder(released, voice):
    with pytest.raises(VcvaeError, match="source-filter"):
        Converter(released.model, GriffinLim(iterations=2)).stream(voice)


def test_activity_follows_speech_and_holds_in_short_pauses():
    activity = Activity(0.0, frame_rate=86.0)
    quiet, loud = torch.full((10, 40), -12.0), torch.full((10, 40), -2.0)
    assert not activity.push(quiet).any()
    assert activity.push(loud).all()
    assert activity.level == pytest.approx(-2.0 + 0.5 * np.log(10), abs=0.3)
    assert activity.push(quiet).all()  # held
    for _ in range(5):
        weight = activity.push(quiet)
    assert not weight.any()


def test_activity_counts_anew_what_turned_out_to_be_noise():
    activity = Activity(-6.0, frame_rate=86.0)
    noise, speech = torch.full((10, 100), -8.0), torch.full((10, 40), -2.0)
    assert activity.push(noise).all()
    activity.push(speech)
    weight = activity.recount(torch.cat([noise, speech], dim=1))
    assert not weight[:100].any()
    assert weight[100:].all()
    assert activity.level == pytest.approx(-2.0 + 0.5 * np.log(10), abs=0.01)


def test_loudness_tends_to_the_source():
    loudness = Loudness(rate=20.0)
    converted = np.full(100, 0.1, np.float32)
    first = loudness.apply(converted, 0.02)
    assert first[0] == pytest.approx(0.1)
    for _ in range(200):
        last = loudness.apply(converted, 0.02)
    assert np.square(last).mean() == pytest.approx(0.02, rel=0.3)
    assert np.array_equal(loudness.apply(converted, 0.0), last)  # a pause changes nothing
