import logging
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.synthetic import speak
from vcvae.convert import converter as converter_module
from vcvae.convert.converter import Converter, Encoder, _join, _pieces, attenuate_pauses
from vcvae.environment import find_device
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig, level
from vcvae.models.conversion.vae import DisentanglingConfig, DisentanglingVAE
from vcvae.vocoder import GriffinLim

RATE = 22050
RECORDINGS = Path(__file__).parents[1] / "egs" / "convert"


def decibels(x):
    return 10 * np.log10(np.mean(np.square(x)))


@pytest.fixture(scope="module")
def converter():
    return Converter.from_pretrained(device="cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """How a voice is learned has tests of its own."""
    monkeypatch.setattr("vcvae.convert.converter.adapt", lambda model, *_, **__: model)


@pytest.fixture(scope="module")
def source():
    return speak("aisoeufa uio", f0=110, seconds=3.0)


@pytest.fixture(scope="module")
def target():
    return speak("eoauis", f0=210, tract=1.15, seconds=2.0, seed=1)


def test_a_conversion_is_as_long_and_as_loud_as_its_source(converter, source, target):
    for gain in (1.0, 0.05):
        samples, rate = converter.convert(gain * source, target)
        assert rate == RATE
        assert samples.dtype == np.float32
        assert samples.shape == source.shape
        assert decibels(samples) == pytest.approx(decibels(gain * source), abs=0.5)
        assert np.abs(samples).max() <= 1


def test_the_same_in_gives_the_same_out(converter, source, target):
    first, second = (converter.convert(source, target)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_arrays_and_files_of_any_rate_and_kind_agree(converter, source, target, tmp_path):
    expected, _ = converter.convert(source, target)
    sf.write(tmp_path / "source.flac", source, RATE, subtype="PCM_24")
    sf.write(tmp_path / "target.wav", target, RATE, subtype="FLOAT")
    voice = converter.voice([tmp_path / "target.wav"])
    converter.convert_file(tmp_path / "source.flac", voice, tmp_path / "out.wav")
    written, rate = sf.read(tmp_path / "out.wav")
    assert (rate, written.shape) == (RATE, expected.shape)
    samples, _ = converter.convert(tmp_path / "source.flac", voice)
    np.testing.assert_allclose(written, samples, atol=1e-4)
    assert np.corrcoef(samples, expected)[0, 1] > 0.9  # but for the rounding and the trimming of the target


def test_several_utterances_are_averaged(converter, target):
    other = speak("iuoa", f0=190, tract=1.15, seconds=2.0, seed=2)
    voices = [converter.voice([x]) for x in (target, other)]
    both = converter.voice([target, other])
    mean = torch.cat([v.reference.embedding for v in voices]).mean(0)
    torch.testing.assert_close(both.reference.embedding[0], mean / mean.norm())
    for name in ("mean", "std"):
        own = [getattr(v.f0_statistics, name) for v in voices]
        torch.testing.assert_close(getattr(both.f0_statistics, name), (own[0] + own[1]) / 2)
    with pytest.raises(VcvaeError, match="no target utterance"):
        converter.voice([])


def test_pieces_give_what_the_whole_gives(converter, target, monkeypatch, caplog):
    words = "aisoeufa uio eisauo fiaso uei asofie u a"
    long = speak(words, f0=120, seconds=12.0, seed=3)
    voice = converter.voice([target])
    whole, _ = converter.convert(long, voice)
    monkeypatch.setattr(converter_module, "PIECE", 256)
    pieces, _ = converter.convert(long, voice)
    assert pieces.shape == whole.shape
    mels = [converter.spectrogram(torch.from_numpy(x)[None])[0] for x in (whole, pieces)]
    loud = mels[0] > mels[0].max() - 7  # 60 dB
    difference = (mels[0] - mels[1]).abs()
    assert difference[loud].mean() < 0.25
    # No seam: where pieces join, the difference is not larger than elsewhere, and there is no click.
    joints = [256 * k + 88 for k in range(1, 4)]
    near = torch.cat([difference[:, j - 44 : j + 44][loud[:, j - 44 : j + 44]] for j in joints])
    assert near.mean() < 0.35
    assert np.abs(np.diff(pieces)).max() <= 1.5 * np.abs(np.diff(whole)).max()


@pytest.mark.parametrize("samples", [128 * 256, 3 * 128 * 256, 3 * 128 * 256 + 1, 2 * 128 * 256 + 176 * 256 - 1])
def test_a_file_in_pieces_is_the_array_in_pieces(converter, target, monkeypatch, tmp_path, samples):
    monkeypatch.setattr(converter_module, "PIECE", 128)
    long = speak("aisoeufa uio eisauo", f0=120, seconds=6.0, seed=3)[:samples]
    sf.write(tmp_path / "long.wav", long, RATE, subtype="FLOAT")
    voice = converter.voice([target])
    converter.convert_file(tmp_path / "long.wav", voice, tmp_path / "out.wav")
    expected, _ = converter.convert(long, voice)
    assert expected.shape == long.shape
    np.testing.assert_allclose(sf.read(tmp_path / "out.wav")[0], expected, atol=1e-3)


def test_a_dc_offset_is_not_loudness(converter, source, target):
    samples, _ = converter.convert((0.05 * source + 0.4).astype(np.float32), target)
    assert samples.std() == pytest.approx(0.05 * source.std(), rel=0.1)


def test_pieces_cover_everything_once():
    samples = np.arange(1000, dtype=np.float32)
    for sizes in ([1000], [100] * 10, [999, 1], [1] * 1000, [640, 360]):
        blocks = np.split(samples, np.cumsum(sizes)[:-1])
        pieces = list(_pieces(iter(blocks), 200, 50))
        assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]
        for k, (piece, last) in enumerate(pieces):
            assert piece[0] == 200 * k
            assert last or len(piece) == 250
        assert 50 <= len(pieces[-1][0]) < 450
        assert pieces[-1][0][-1] == 999


def test_a_joint_passes_from_one_piece_to_the_other_in_the_quietest_place():
    hop, frames = 256, 40
    mel = torch.zeros(80, frames)
    mel[:, 25] = -10
    joined = _join(np.zeros(frames * hop, np.float32), np.ones(frames * hop + 99, np.float32), mel, hop)
    assert len(joined) == frames * hop + 99
    assert (np.diff(joined) >= 0).all()
    middle = np.searchsorted(joined, 0.5) / hop
    assert abs(middle - 25) < 3


def test_the_vocoder_is_told_the_pitch_at_which_the_decoder_spoke(converter, source, target, monkeypatch):
    told, decoded = [], []
    spoken = converter.vocoder.speak
    monkeypatch.setattr(converter.vocoder, "speak", lambda mel, f0: told.append(f0) or spoken(mel, f0))
    hook = converter.model.decoder.register_forward_pre_hook(lambda _module, inputs: decoded.append(inputs[2]))
    voice = converter.voice([target])
    converter.convert(source, voice)
    hook.remove()
    assert told == decoded
    torch.testing.assert_close(told[0].statistics().mean, voice.f0_statistics.mean, atol=0.1, rtol=0)


def test_the_pitch_moves_to_the_target_and_by_the_shift(converter):
    voice = converter.voice([RECORDINGS / "target.flac"])
    own = converter.voice([RECORDINGS / "source.flac"]).f0_statistics.mean.item()
    plain, shifted = (
        converter.voice(
            [converter.convert(RECORDINGS / "source.flac", voice, pitch_shift=s)[0]]
        ).f0_statistics.mean.item()
        for s in (0, 5)
    )
    wanted = voice.f0_statistics.mean.item()
    assert abs(plain - wanted) < 0.5 * abs(own - wanted)
    assert shifted - plain == pytest.approx(5 / 12, abs=0.2)


def test_latents(converter, source):
    encoder = Encoder(converter.model)
    speaker, content = encoder.speaker(source), encoder.content(source)
    assert speaker.dtype == content.dtype == np.float32
    assert np.linalg.norm(speaker) == pytest.approx(1, abs=1e-5)
    assert content.shape == (converter.model.config.content_latent, math.ceil(len(source) / 1024))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 5000), np.float32), r"must be \(samples,\)"),
        (np.full(5000, np.nan, np.float32), "NaN"),
        (np.zeros(5000, np.float32), "silent"),
        (np.ones(5000, np.int16), "floating-point"),
        (np.sin(np.arange(100, dtype=np.float32)), "too short"),
    ],
)
def test_a_wrong_array_is_one_sentence(converter, source, samples, message):
    with pytest.raises(VcvaeError, match=message):
        converter.convert(samples, source)
    with pytest.raises(VcvaeError, match=message):
        converter.convert(source, samples)


def test_parts_for_different_mels_do_not_join():
    with pytest.raises(VcvaeError, match="'hop'"):
        Converter(DisentanglingVAE(DisentanglingConfig()), GriffinLim(MelConfig(hop=128)))


def test_critics_hear_the_mel_of_their_converter(converter, source, target, monkeypatch):
    given = []
    monkeypatch.setattr("vcvae.convert.converter.adapt", lambda model, *_, losses, **__: given.append(losses) or model)
    learned, _ = converter.finetuned([target], sources=[source])
    assert given == [converter.losses]
    assert learned.losses is converter.losses
    other = MelConfig(f_max=7600)
    with pytest.raises(VcvaeError, match="the mel of the model and of the losses differ in 'f_max'"):
        Converter(DisentanglingVAE(DisentanglingConfig(mel=other)), GriffinLim(other), converter.losses)


def test_an_unknown_device_is_one_sentence():
    with pytest.raises(VcvaeError, match="--device teapot: not available here"):
        find_device("teapot")
    with pytest.raises(VcvaeError, match="--device cpu:x: not available here"):
        find_device("cpu:x")
    if not torch.cuda.is_available():
        with pytest.raises(VcvaeError, match="--device cuda: not available here"):
            find_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_says_what_the_cpu_says(source, target):
    on = {device: Converter.from_pretrained(device=device) for device in ("cpu", "cuda")}
    latents = [c.content(source) for c in on.values()]
    np.testing.assert_allclose(*latents, atol=1e-3)
    mels = [c.spectrogram(torch.from_numpy(c.convert(source, target)[0]).to(c.device)[None]).cpu() for c in on.values()]
    assert (mels[0] - mels[1]).abs().mean() < 0.2


def test_conversion_is_silent_about_clean_input(converter, source, target, caplog):
    with caplog.at_level(logging.WARNING):
        converter.convert(source, target)
    assert not caplog.records


def test_a_conversion_pauses_as_its_source_does():
    """There it is as far below its mean level as the source, where it was nearer; nowhere else does it change."""
    generator = torch.Generator().manual_seed(0)
    mel, converted = (torch.randn(2, 80, 120, generator=generator) - 3 for _ in range(2))
    mel[:, :, 40:80] -= 6
    mel[:, :, 100:] -= 2  # quiet, and no pause
    converted[0, :, 40:80] -= 2
    converted[1, :, 40:80] -= 8
    result = attenuate_pauses(converted, mel)
    torch.testing.assert_close(result[1], converted[1])
    torch.testing.assert_close(result[0, :, :36], converted[0, :, :36])
    torch.testing.assert_close(result[0, :, 84:], converted[0, :, 84:])

    def depth(mel):
        return level(mel[:1, :, 45:75]) - level(mel[:1])

    assert depth(converted) > depth(mel) + 3
    torch.testing.assert_close(depth(result), depth(mel), atol=0.2, rtol=0)
