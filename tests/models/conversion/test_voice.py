"""A voice's file: what it holds, how it is written, and what is refused when it is read."""

import threading
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.corpus import TINY
from vcvae.convert.encoder import MAX_REFERENCE_FRAMES
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.difference import WeightDifference
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice, VoiceCard


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DisentanglingVAE(DisentanglingConfig(**TINY, speaker_statistics=12, statistics_latent=5)).eval()


@pytest.fixture
def voice(model):
    torch.manual_seed(1)
    moved = DisentanglingVAE(model.config)
    mels = torch.randn(2, 80, 130) - 4.5
    valid_bands = torch.ones(2, 80)
    valid_bands[0, 70:] = valid_bands[:, 75:] = 0
    with torch.no_grad():
        lengths = torch.tensor([130, 90])
        taken = model.voice(mels, lengths, valid_bands=valid_bands, statistics=torch.randn(2, 12)).average()
    card = VoiceCard(name="Ann", consent="agreed: by letter,\n2026", note="CC BY", seconds=2.5, steps=7, model="a/b")
    learned = WeightDifference.between(model.decoder, moved.decoder)
    return replace(taken, learned=learned, fingerprint="0123456789abcdef", card=card)


@pytest.fixture
def file(voice, tmp_path):
    voice.save(tmp_path / "ann.voice")
    return tmp_path / "ann.voice"


def test_voice_is_the_same_after_saving(voice, file):
    again = Voice.load(file)
    assert (again.card, again.fingerprint, again.path) == (voice.card, voice.fingerprint, file)
    torch.testing.assert_close(again.reference.embedding, voice.reference.embedding)
    torch.testing.assert_close(again.reference.statistics, voice.reference.statistics)
    assert voice.reference.statistics.abs().min() > 0
    for name in ("keys", "values"):
        torch.testing.assert_close(getattr(again.reference, name), getattr(voice.reference, name), atol=2e-3, rtol=2e-3)
    assert torch.equal(again.reference.mask, torch.ones(1, 33 + 23, 1))
    torch.testing.assert_close(again.f0_statistics.mean, voice.f0_statistics.mean, equal_nan=True)
    torch.testing.assert_close(again.f0_statistics.std, voice.f0_statistics.std, equal_nan=True)
    assert again.valid_bands.sum() == 75
    for name in voice.learned.matrices:
        assert (again.learned.of(name) - voice.learned.of(name)).norm() < 0.02 * voice.learned.of(name).norm()


def test_voice_without_a_difference_or_voiced_frames_is_the_same_after_saving(voice, tmp_path):
    nan = torch.full((1,), torch.nan)
    replace(voice, learned=None, f0_statistics=F0Statistics(nan, nan), card=VoiceCard()).save(tmp_path / "b.voice")
    again = Voice.load(tmp_path / "b.voice")
    assert again.learned is None
    assert again.f0_statistics.mean.isnan()
    assert again.card == VoiceCard()


def test_voice_of_the_released_sizes_takes_less_than_4_mb(tmp_path):
    """With the longest reference, and all weights of the decoder moved at random, which no low rank describes."""
    torch.manual_seed(0)
    config = DisentanglingConfig(
        content_latent=128,
        decoder_slow_blocks=5,
        decoder_fast_blocks=5,
        postfilter_blocks=3,
        speaker_statistics=6144,
        conditional_rank=48,
    )
    models = [DisentanglingVAE(config) for _ in range(2)]
    frames = MAX_REFERENCE_FRAMES
    keys, values, mask = torch.randn(1, frames, 128), torch.randn(1, frames, 160), torch.ones(1, frames, 1)
    reference = SpeakerReference(torch.randn(1, 128), torch.randn(1, 96), keys, values, mask)
    learned = WeightDifference.between(models[0].decoder, models[1].decoder)
    Voice(reference, F0Statistics(torch.ones(1), torch.ones(1)), torch.ones(1, 80), learned).save(tmp_path / "a.voice")
    assert 3_500_000 < (tmp_path / "a.voice").stat().st_size <= 4_000_000


def test_voice_that_was_learned_forms_no_batch(voice):
    with pytest.raises(ValueError, match="cannot form a batch"):
        Voice.join([voice, voice])
    joined = Voice.join([replace(voice, learned=None)] * 2)
    assert joined.valid_bands.shape == (2, 80)
    assert joined[:1].valid_bands.shape == joined.average().valid_bands.shape == (1, 80)


def rewritten(path, tensors=None, metadata=None):
    """The file with some tensors or metadata replaced; None removes one."""
    with safe_open(path, "pt") as file:
        old = file.metadata()
    kept = {name: x for name, x in (load_file(path) | (tensors or {})).items() if x is not None}
    save_file(kept, path, {name: x for name, x in (old | (metadata or {})).items() if x is not None})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"keys": None}, "keys"),
        ({"embedding": torch.ones(())}, "'embedding' has the shape"),
        ({"f0_mean": torch.ones(()), "f0_std": torch.ones(())}, "'f0_mean' has the shape"),
        ({"f0_mean": torch.full((1,), 1e30)}, "no statistics"),
        ({"f0_std": torch.full((1,), -1.0)}, "no statistics"),
        ({"f0_std": None}, "f0_std"),
        ({"extra": torch.ones(1)}, "extra"),
        ({"embedding": torch.ones(1, 8).half()}, "'embedding' is float16"),
        ({"embedding": torch.ones(8)}, "'embedding' has the shape"),
        ({"embedding": torch.ones(2, 8)}, "'embedding' has the shape"),
        ({"embedding": torch.full((1, 8), torch.nan)}, "'embedding' holds NaN"),
        ({"values": torch.ones(1, 5, 16).half()}, "'values' has the shape"),
        ({"keys": torch.ones(5, 64).half()}, "'keys' has the shape"),
        ({"keys": torch.ones(1, 0, 64).half(), "values": torch.ones(1, 0, 16).half()}, "'keys' has the shape"),
        ({"f0_mean": torch.full((1,), torch.inf)}, "no statistics"),
        ({"f0_std": torch.full((1,), torch.nan), "f0_mean": torch.ones(1)}, "no statistics"),
        ({"valid_bands": torch.ones(80, dtype=torch.uint8)}, "'valid_bands' has the shape"),
        ({"decoder.head.weight.left": None}, "scales no int8 matrix"),
        ({"decoder.head.weight": torch.ones(4, 4)}, "'decoder.head.weight' is float32"),
        ({"decoder.head.bias": torch.full((160,), torch.nan).half()}, "'decoder.head.bias' holds NaN"),
    ],
)
def test_voice_refuses_wrong_tensors(file, tensors, message):
    rewritten(file, tensors)
    with pytest.raises(VcvaeError, match=rf"ann\.voice: not a voice that 'vcvae voice' wrote \(.*{message}"):
        Voice.load(file)


@pytest.mark.parametrize(
    "metadata",
    [
        *({"format": None}, {"format": "vcvae voice 2"}, {"steps": "many"}, {"name": None}, {"fingerprint": None}),
        *({"seconds": "inf"}, {"steps": "-1"}, {"steps": "9" * 5000}, {"fingerprint": "a\nb"}, {"note": "x" * 100_000}),
    ],
)
def test_voice_refuses_wrong_metadata(file, metadata):
    rewritten(file, metadata=metadata)
    with pytest.raises(VcvaeError, match="not a voice that 'vcvae voice' wrote"):
        Voice.load(file)


@pytest.mark.parametrize("content", [b"RIFF", b"version https://git-lfs.github.com/spec/v1\n", bytes(100)])
def test_voice_refuses_other_files(tmp_path, content):
    (tmp_path / "a.voice").write_bytes(content)
    with pytest.raises(VcvaeError, match=r"a\.voice: not a voice that 'vcvae voice' wrote"):
        Voice.load(tmp_path / "a.voice")


def test_voice_refuses_what_is_cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(VcvaeError, match="not a voice that 'vcvae voice' wrote"):
        Voice.load(file)


def test_voice_refuses_what_is_no_file(tmp_path):
    (tmp_path / "folder.voice").mkdir()
    (tmp_path / "empty.voice").touch()
    for name, message in (("absent", "give a voice"), ("folder", "give a voice"), ("empty", "an empty file")):
        with pytest.raises(VcvaeError, match=rf"{name}\.voice: .*{message}"):
            Voice.load(tmp_path / f"{name}.voice")


def test_voice_that_cannot_be_written_leaves_nothing_behind(voice, tmp_path):
    (tmp_path / "a.voice").mkdir()
    with pytest.raises(VcvaeError, match=r"a\.voice: cannot be written"):
        voice.save(tmp_path / "a.voice")
    with pytest.raises(VcvaeError, match="cannot be written"):
        voice.save(tmp_path / "absent" / "a.voice")
    assert [path.name for path in tmp_path.iterdir()] == ["a.voice"]


def test_voice_written_by_many_at_once_stays_whole(voice, tmp_path):
    path = tmp_path / "a.voice"
    errors = []

    def work(name):
        try:
            for _ in range(10):
                replace(voice, card=replace(voice.card, name=name)).save(path)
                assert Voice.load(path).card.name in "abcd"
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [each.name for each in tmp_path.iterdir()] == ["a.voice"]
