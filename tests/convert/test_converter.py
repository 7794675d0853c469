import logging

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.synthetic import RATE, speak
from vcvae.audio import reading
from vcvae.convert import chunks
from vcvae.convert.converter import Converter
from vcvae.environment import find_device
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.vocoder import GriffinLim


def decibels(x):
    return 10 * np.log10(np.mean(np.square(x)))


@pytest.fixture(scope="module")
def source():
    return speak("aisoeufa uio", f0=110, seconds=3.0)


@pytest.fixture(scope="module")
def target():
    return speak("eoauis", f0=210, tract=1.15, seconds=2.0, seed=1)


def test_convert_keeps_length_and_loudness(released, source, target):
    for gain in (1.0, 0.05):
        samples, rate = released.convert(gain * source, target, quick=True)
        assert rate == RATE
        assert samples.dtype == np.float32
        assert samples.shape == source.shape
        assert decibels(samples) == pytest.approx(decibels(gain * source), abs=0.5)
        assert np.abs(samples).max() <= 1


def test_convert_is_deterministic(released, source, target):
    first, _ = released.convert(source, target, quick=True)
    second, _ = released.convert(source, target, quick=True)
    np.testing.assert_array_equal(first, second)


def test_convert_agrees_on_arrays_and_files(released, source, target, tmp_path):
    expected, _ = released.convert(source, target, quick=True)
    sf.write(tmp_path / "source.flac", source, RATE, subtype="PCM_24")
    sf.write(tmp_path / "target.wav", target, RATE, subtype="FLOAT")
    voice = released.voice([tmp_path / "target.wav"])
    released.convert_file(tmp_path / "source.flac", voice, tmp_path / "out.wav")
    written, rate = sf.read(tmp_path / "out.wav")
    assert (rate, written.shape) == (RATE, expected.shape)
    samples, _ = released.convert(tmp_path / "source.flac", voice)
    np.testing.assert_allclose(written, samples, atol=1e-4)
    assert np.corrcoef(samples, expected)[0, 1] > 0.9  # but for the rounding and the trimming of the target


def seconds_decibels(samples):
    """The level of each second."""
    whole = samples[: len(samples) // RATE * RATE].reshape(-1, RATE)
    return 20 * np.log10(whole.std(axis=1) + 1e-9)


def held(kind, seconds):
    """A vowel with vibrato, held without a pause, or a hum."""
    if kind == "vowel":
        return speak("a", f0=140, seconds=seconds)
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.2 * np.cos(2 * np.pi * 120 * time) + 0.08 * np.cos(2 * np.pi * 240 * time)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vowel", "hum"])
@pytest.mark.parametrize("frames", [2560, 256])
def test_convert_keeps_the_level_of_held_sounds(released, target, monkeypatch, kind, frames):
    """In one piece, and over the seams of several."""
    monkeypatch.setattr(chunks, "PIECE_FRAMES", frames)
    source = held(kind, 9.0)
    converted, _ = released.convert(source, released.voice([target]))
    assert np.abs(seconds_decibels(converted) - seconds_decibels(source)).max() < 3


@pytest.mark.slow
@pytest.mark.parametrize("steps", [(0, -20), (-20, 0), (0, -12, -25, 0)])
def test_convert_keeps_the_level_of_soft_and_loud_passages(released, target, steps):
    source = np.concatenate([10 ** (gain / 20) * speak("aisoeaue", f0=110, seconds=3.0) for gain in steps])
    converted, _ = released.convert(source.astype(np.float32), released.voice([target]))
    assert np.abs(seconds_decibels(converted) - seconds_decibels(source)).max() < 3


def test_convert_keeps_the_level_of_speech_after_a_long_silence(released, source, target):
    silence = 1e-4 * np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32)
    converted, _ = released.convert(np.concatenate([silence, source]), released.voice([target]))
    levels = seconds_decibels(converted)
    assert np.abs(levels[8:] - seconds_decibels(source)).max() < 3
    assert levels[:8].max() < -70


@pytest.mark.parametrize("drive", [0.1, 4])
def test_convert_keeps_the_level_of_loud_recordings(released, source, target, drive, tmp_path):
    """Normalised to full scale, and limited like a broadcast."""
    loud = 0.97 * np.tanh(2 * drive * source) / np.tanh(drive)
    sf.write(tmp_path / "a.wav", loud, RATE)
    released.convert_file(tmp_path / "a.wav", released.voice([target]), tmp_path / "b.wav")
    converted, _ = sf.read(tmp_path / "b.wav")
    assert decibels(converted) == pytest.approx(decibels(loud), abs=0.5)
    assert np.abs(converted).max() < 0.995


@pytest.mark.slow
def test_convert_of_pieces_is_that_of_the_whole(released, target, monkeypatch):
    words = "aisoeufa uio eisauo fiaso uei asofie u a"
    long = speak(words, f0=120, seconds=12.0, seed=3)
    voice = released.voice([target])
    whole, _ = released.convert(long, voice)
    monkeypatch.setattr(chunks, "PIECE_FRAMES", 256)
    pieces, _ = released.convert(long, voice)
    assert pieces.shape == whole.shape
    whole_mel = released.spectrogram(torch.from_numpy(whole)[None])[0]
    pieces_mel = released.spectrogram(torch.from_numpy(pieces)[None])[0]
    loud = whole_mel > whole_mel.max() - 7  # 60 dB
    difference = (whole_mel - pieces_mel).abs()
    assert difference[loud].mean() < 0.25
    # No seam: where pieces join, the difference is not larger than elsewhere, and there is no click.
    joints = [256 * k + 88 for k in range(1, 4)]
    near = torch.cat([difference[:, j - 44 : j + 44][loud[:, j - 44 : j + 44]] for j in joints])
    assert near.mean() < 0.35
    largest = max(np.abs(np.diff(pieces[256 * (j - 44) : 256 * (j + 44)])).max() for j in joints)
    assert largest <= 1.5 * np.abs(np.diff(whole)).max()


@pytest.mark.parametrize("samples", [128 * 256, 3 * 128 * 256, 3 * 128 * 256 + 1, 2 * 128 * 256 + 176 * 256 - 1])
def test_convert_file_is_convert_of_its_samples(small, target, monkeypatch, tmp_path, samples):
    monkeypatch.setattr(chunks, "PIECE_FRAMES", 128)
    long = speak("aisoeufa uio eisauo", f0=120, seconds=6.0, seed=3)[:samples]
    sf.write(tmp_path / "long.wav", long, RATE, subtype="FLOAT")
    voice = small.voice([target])
    reports = []
    small.convert_file(
        tmp_path / "long.wav", voice, tmp_path / "out.wav", progress=lambda *report: reports.append(report)
    )
    passes = ["analyzing"] + (["converting"] if samples > 128 * 256 else [])
    passes = [name for pair in passes for name in ("measuring the peak", pair)]
    assert [description for done, _, description in reports if done == 0] == [f"{name}, seconds" for name in passes]
    assert {total for _, total, _ in reports} == {round(len(long) / RATE)}
    expected, _ = small.convert(long, voice)
    assert expected.shape == long.shape
    np.testing.assert_allclose(sf.read(tmp_path / "out.wav")[0], expected, atol=1e-3)


def test_convert_decodes_and_encodes_a_short_source_once(small, source, target, tmp_path, monkeypatch):
    sf.write(tmp_path / "source.wav", source, RATE)
    decoded, encoded = [], []
    decode = reading._decode
    monkeypatch.setattr(reading, "_decode", lambda *args, **options: decoded.append(args) or decode(*args, **options))
    small.model.f0.register_forward_pre_hook(lambda _module, inputs: encoded.append(inputs))
    voice = small.voice([target])
    encoded.clear()
    small.convert_file(tmp_path / "source.wav", voice, tmp_path / "out.wav")
    assert (len(decoded), len(encoded)) == (1, 1)
    small.convert(tmp_path / "source.wav", target, quick=True)
    assert len(decoded) == 2


def test_convert_does_not_take_an_offset_for_loudness(released, source, target):
    samples, _ = released.convert((0.05 * source + 0.4).astype(np.float32), target, quick=True)
    assert samples.std() == pytest.approx(0.05 * source.std(), rel=0.1)


def test_convert_synthesizes_with_the_decoders_f0(released, source, target, monkeypatch):
    synthesized, decoded = [], []
    synthesize = released.vocoder.synthesize
    monkeypatch.setattr(released.vocoder, "synthesize", lambda mel, f0: synthesized.append(f0) or synthesize(mel, f0))
    hook = released.model.decoder.register_forward_pre_hook(lambda _module, inputs: decoded.append(inputs[2]))
    voice = released.voice([target])
    released.convert(source, voice)
    hook.remove()
    assert {id(f0) for f0 in synthesized} == {id(f0) for f0 in decoded}
    torch.testing.assert_close(synthesized[0].statistics().mean, voice.f0_statistics.mean, atol=0.1, rtol=0)


@pytest.mark.slow
def test_convert_matches_the_targets_f0_and_shifts_it(released, clips):
    voice = released.voice([clips / "target.wav"])
    source_mean = released.voice([clips / "source.wav"]).f0_statistics.mean.item()
    target_mean = voice.f0_statistics.mean.item()
    means = []
    for pitch_shift in (0, 5):
        converted, _ = released.convert(clips / "source.wav", voice, pitch_shift=pitch_shift)
        means.append(released.voice([converted]).f0_statistics.mean.item())
    assert abs(means[0] - target_mean) < 0.5 * abs(source_mean - target_mean)
    assert means[1] - means[0] == pytest.approx(5 / 12, abs=0.2)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 5000), np.float32), r"must be \(samples,\)"),
        (np.full(5000, np.nan, np.float32), "NaN"),
        (np.zeros(5000, np.float32), "silent"),
        (np.ones(5000, np.complex64), "real numbers"),
        (np.sin(np.arange(100, dtype=np.float32)), "too short"),
    ],
)
def test_convert_refuses_a_wrong_array(small, source, samples, message):
    with pytest.raises(VcvaeError, match=message):
        small.convert(samples, source)
    with pytest.raises(VcvaeError, match=message):
        small.convert(source, samples)


def test_convert_does_not_warn_of_clean_input(small, source, target, caplog):
    with caplog.at_level(logging.WARNING):
        small.convert(source, target, quick=True)
    assert not caplog.records


def test_converter_refuses_parts_for_different_mels(released):
    with pytest.raises(VcvaeError, match="'hop'"):
        Converter(DisentanglingVAE(DisentanglingConfig()), GriffinLim(MelConfig(hop=128)))
    other = MelConfig(f_max=7600)
    with pytest.raises(VcvaeError, match="the mel of the model and of the losses differ in 'f_max'"):
        Converter(DisentanglingVAE(DisentanglingConfig(mel=other)), GriffinLim(other), released.losses)


def test_converter_loads_the_losses_when_a_voice_is_learned(tiny_model, source, target, monkeypatch):
    loaded, used = [], []
    monkeypatch.setattr("vcvae.convert.converter.load_losses", lambda mel, *, vocoder: loaded.append(vocoder))
    monkeypatch.setattr(
        "vcvae.convert.learner.finetune", lambda model, *_, sources, **__: used.append(sources.losses) or model
    )
    converter = Converter.from_pretrained(tiny_model, device="cpu")
    converter.convert(source, target, quick=True)
    assert (loaded, used) == ([], [])
    converter.convert(source, target)
    assert used == [None]
    assert loaded[0].config == converter.vocoder.config
    assert loaded[0].head is converter.vocoder.head  # not a second copy of the weights
    other = Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu")
    assert other.losses is None
    assert loaded[-1] is None


def test_find_device_refuses_an_unknown_device():
    with pytest.raises(VcvaeError, match="--device teapot: not available here"):
        find_device("teapot")
    with pytest.raises(VcvaeError, match="--device cpu:x: not available here"):
        find_device("cpu:x")
    if not torch.cuda.is_available():
        with pytest.raises(VcvaeError, match="--device cuda: not available here"):
            find_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_convert_agrees_on_cpu_and_gpu(source, target):
    on_cpu = Converter.from_pretrained(device="cpu")
    on_gpu = Converter.from_pretrained(device="cuda")
    np.testing.assert_allclose(on_cpu.content(source), on_gpu.content(source), atol=1e-3)
    mels = []
    for converter in (on_cpu, on_gpu):
        samples, _ = converter.convert(source, converter.learn(target, steps=2))
        mels.append(on_cpu.spectrogram(torch.from_numpy(samples)[None]))
    assert (mels[0] - mels[1]).abs().mean() < 0.2
