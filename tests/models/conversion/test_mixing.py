"""Voices between others: the embedding, the frames, the F0 statistics and what was learned."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.corpus import TINY
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.difference import WeightDifference
from vcvae.models.conversion.reference import MAX_REFERENCE_FRAMES, spherical_mean
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice, VoiceCard


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DisentanglingVAE(DisentanglingConfig(**TINY)).eval()


@pytest.fixture(scope="module")
def voices(model):
    """Three voices of one model, of 20, 40 and 60 frames, with F0 means of 100, 200 and 400 Hz."""
    torch.manual_seed(1)
    made = []
    for number, name in enumerate(("ann", "ben", "cid")):
        with torch.no_grad():
            voice = model.voice(torch.randn(1, 80, 80 * (number + 1)) - 4.5)
        statistics = F0Statistics(torch.tensor([math.log2(100) + number]), torch.tensor([0.1 * (number + 1)]))
        card = VoiceCard(name=name, consent=f"by {name}", seconds=1.0)
        made.append(replace(voice, f0_statistics=statistics, card=card))
    return made


def test_spherical_mean_of_two_divides_their_angle():
    torch.manual_seed(0)
    pair = F.normalize(torch.randn(2, 32), dim=1)
    angle = (pair[0] @ pair[1]).acos()
    for weight in (0.0, 0.2, 0.5, 1.0):
        between = spherical_mean(pair, (1 - weight, weight))
        torch.testing.assert_close((between @ pair[0]).clamp(max=1).acos(), weight * angle, atol=1e-3, rtol=0)
        torch.testing.assert_close(between.norm(), torch.tensor(1.0))


def test_spherical_mean_of_several_does_not_depend_on_their_order():
    torch.manual_seed(0)
    vectors = F.normalize(torch.randn(4, 16) + 1, dim=1)
    weights = [0.1, 0.2, 0.3, 0.4]
    torch.testing.assert_close(spherical_mean(vectors, weights), spherical_mean(vectors.flip(0), weights[::-1]))


def test_mixture_of_one_voice_is_that_voice(voices):
    mixed = Voice.mix([voices[2], voices[0]], [2.0, 0.0])
    torch.testing.assert_close(mixed.reference.embedding, voices[2].reference.embedding)
    assert torch.equal(mixed.reference.values, voices[2].reference.values)
    assert torch.equal(mixed.f0_statistics.mean, voices[2].f0_statistics.mean)


def test_mixture_has_frames_in_proportion_and_interpolated_f0(voices):
    mixed = Voice.mix(voices[:2], [0.25, 0.75])
    values = mixed.reference.values[0]
    from_ann = (values[:, None] == voices[0].reference.values).all(dim=2).any(dim=1)
    assert from_ann.sum() / len(values) == pytest.approx(0.25, abs=0.02)
    assert len(values) == 53  # all 40 of ben's, and a third as many of ann's
    assert 2 ** float(mixed.f0_statistics.mean) == pytest.approx(100 * 2**0.75, rel=1e-4)
    assert float(mixed.f0_statistics.std) == pytest.approx(0.175, rel=1e-4)
    assert mixed.card.name == "0.25 ann + 0.75 ben"
    assert mixed.card.consent == "ann: by ann; ben: by ben"


def test_mixture_takes_f0_from_the_voices_that_have_some(voices):
    nan = torch.full((1,), torch.nan)
    voiceless = replace(voices[1], f0_statistics=F0Statistics(nan, nan))
    assert float(Voice.mix([voices[0], voiceless]).f0_statistics.mean) == pytest.approx(math.log2(100))
    assert Voice.mix([voiceless, voiceless]).f0_statistics.mean.isnan()


def test_mixture_is_bounded_in_frames(voices):
    long = replace(voices[0], reference=replace(voices[0].reference, **_repeated(voices[0].reference, 300)))
    assert Voice.mix([long, long]).reference.keys.shape[1] == MAX_REFERENCE_FRAMES


def _repeated(reference, times):
    return {name: getattr(reference, name).repeat(1, times, 1) for name in ("keys", "values", "mask")}


def test_mixture_is_saved_and_converts(voices, model, tmp_path):
    mixed = Voice.mix(voices, [0.5, 0.3, 0.2])
    mixed.save(tmp_path / "mixed.voice")
    mel = torch.randn(1, 80, 50) - 4.5
    with torch.no_grad():
        converted = [model.convert(mel, voice) for voice in (mixed, Voice.load(tmp_path / "mixed.voice"))]
    torch.testing.assert_close(*converted, atol=0.05, rtol=0.05)


def test_mixture_adds_what_was_learned(voices, model):
    torch.manual_seed(2)
    differences = [WeightDifference.between(model.decoder, DisentanglingVAE(model.config).decoder) for _ in range(2)]
    learned = [replace(voice, learned=d) for voice, d in zip(voices, differences, strict=False)]
    mixed = Voice.mix([*learned, voices[2]], [0.5, 0.25, 0.25]).learned
    for name in (*differences[0].vectors, *differences[0].matrices):
        expected = 0.5 * differences[0].of(name) + 0.25 * differences[1].of(name)
        assert (mixed.of(name) - expected).norm() < 1e-3 * expected.norm()
    whole, bounded = (
        sum(x.numel() * x.element_size() for x in WeightDifference.mix(differences, [1, 1], **bound).stored().values())
        for bound in ({}, {"max_bytes": 6000})
    )
    assert bounded < whole  # small tensors are not stored in int8, so the bound is not exact here


def test_mixture_refuses_what_does_not_fit(voices):
    for arguments in (([],), (voices, [1.0]), (voices[:2], [1.0, -0.5]), (voices[:2], [0.0, 0.0])):
        with pytest.raises(VcvaeError, match="a mixture of"):
            Voice.mix(*arguments)
    with pytest.raises(VcvaeError, match="ann, ben: made for different models"):
        Voice.mix([replace(voices[0], fingerprint="other"), voices[1]])


def test_mixture_refuses_voices_of_other_sizes(voices):
    reference = voices[1].reference
    narrow = replace(voices[1], reference=replace(reference, embedding=reference.embedding[:, 1:]))
    learned = [WeightDifference({}, {"a": (torch.ones(3, 1), torch.ones(1, n))}) for n in (4, 5)]
    changed = [replace(voice, learned=difference) for voice, difference in zip(voices, learned, strict=False)]
    for pair in ([voices[0], narrow], changed):
        with pytest.raises(VcvaeError, match="ann, ben: made for different models"):
            Voice.mix(pair)


def test_difference_of_another_module_is_refused_before_its_product_takes_memory(model):
    name = next(name for name, weight in model.decoder.named_parameters() if weight.ndim == 2)
    difference = WeightDifference({}, {name: (torch.ones(2**20, 1), torch.ones(1, 2**20))})  # 4 TB
    with pytest.raises(ValueError, match=r"\(1048576, 1048576\), which the module lacks"):
        difference.applied_to(model.decoder)
