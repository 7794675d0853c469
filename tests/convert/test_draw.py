"""Voices that are drawn: the same for the same seed, of the F0 that is asked for, and at a distance from others."""

import pytest
import torch
from torch.nn import functional as F

from tests.corpus import TINY, TINY_ECAPA
from tests.synthetic import speak
from vcvae import Converter, Encoder
from vcvae.convert import draw
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion import prior as prior_module
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.prior import VoicePrior
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet, SpeakerSimilarityNetConfig
from vcvae.models.hub import fingerprint
from vcvae.vocoder import GriffinLim


@pytest.fixture
def converter(model, sentences, monkeypatch):
    """An untrained one, for which all voices are alike."""
    monkeypatch.setattr(draw, "SENTENCES", sentences)
    monkeypatch.setattr(draw, "MAX_SIMILARITY", 2.0)
    monkeypatch.setattr(prior_module, "MAX_SIMILARITY", 2.0)
    torch.manual_seed(0)
    embeddings = F.normalize(torch.randn(8, model.config.speaker_latent), dim=1)
    statistics = F0Statistics(torch.rand(8) + 6.5, torch.rand(8) / 4 + 0.1)
    prior = VoicePrior.fit(embeddings, statistics, fingerprint(model))
    return Converter(model, GriffinLim(iterations=2), prior=lambda: prior)


def test_drawn_voice_is_the_same_for_the_same_seed(converter, tmp_path):
    first, again, other = (converter.draw(seed=seed) for seed in (3, 3, 4))
    for name in ("embedding", "keys", "values"):
        assert torch.equal(getattr(first.reference, name), getattr(again.reference, name))
    assert not torch.equal(first.reference.embedding, other.reference.embedding)
    assert first.f0_statistics.mean != other.f0_statistics.mean
    assert first.fingerprint == converter.fingerprint
    assert "nobody" in first.card.consent
    first.save(tmp_path / "new.voice")
    samples, _ = converter.convert(speak("aiu", seconds=0.5), tmp_path / "new.voice")
    assert len(samples) == 11025


def test_drawn_voice_has_the_f0_that_is_asked_for(converter):
    drawn = converter.draw(seed=1, f0=110.0)
    assert 2 ** float(drawn.f0_statistics.mean) == pytest.approx(110, rel=1e-4)
    assert float(drawn.f0_statistics.std) > 0


def test_drawn_voice_refuses_what_cannot_be(converter, monkeypatch):
    with pytest.raises(VcvaeError, match="f0 20 Hz"):
        converter.draw(f0=20.0)
    with pytest.raises(VcvaeError, match="distance 1"):
        converter.draw(distance=1.5)
    with pytest.raises(VcvaeError, match="for another model"):
        Converter(converter.model, converter.vocoder).draw()  # with the released prior
    monkeypatch.setattr(draw, "APART", 0.1)
    monkeypatch.setattr(draw, "DRAW_ATTEMPTS", 2)
    alike = converter.voice([speak("aiueo", seconds=1.0)])
    with pytest.raises(VcvaeError, match="far enough from others"):
        converter.draw(avoid=[alike])


@pytest.fixture
def with_statistics(converter, monkeypatch):
    """A drawing for an untrained model that takes statistics of a speaker network, the network, and a prior."""
    net = SpeakerSimilarityNet(SpeakerSimilarityNetConfig(**TINY_ECAPA)).eval()
    monkeypatch.setattr(SpeakerSimilarityNet, "from_pretrained", lambda _: net)
    sizes = TINY | {"speaker_statistics": net.outputs, "statistics_latent": 5}
    encoder = Encoder(DisentanglingVAE(DisentanglingConfig(**sizes)))
    torch.nn.init.normal_(encoder.model.statistics.centre, std=0.1)
    return draw.Drawing(encoder), net, converter.prior


def test_statistics_are_those_of_the_speaker_network(with_statistics):
    drawing, net, prior = with_statistics
    drawn = drawing.draw(prior, seed=0)
    projected = drawn.voice.reference.statistics[0]
    # The projection is linear but for the centre: the mean of its outputs is the output for the mean.
    mean = drawn.statistics[None] * torch.linspace(0.9, 1.0, 101)[:, None]  # of unit vectors, it is a bit shorter
    with torch.no_grad():
        distances = (drawing.model.statistics(mean) - projected).norm(dim=1)
    assert float(distances.min()) < 1e-2 * float(projected.norm())
    references = drawing.encoder.load_references([speak("aiu", seconds=1.0), speak("oe", seconds=1.0)])
    expected = torch.cat([net(reference.mel) for reference in references]).mean(dim=0) - drawing.model.statistics.centre
    torch.testing.assert_close(drawing.centred_statistics(references), F.normalize(expected, dim=0))


@pytest.mark.slow
def test_drawn_voices_of_the_released_model_are_nobodys(released):
    prior = VoicePrior.from_pretrained()
    embedding = released.model.centred_embedding
    first = released.draw(seed=1)
    second = released.draw(seed=2, avoid=[first])
    for voice in (first, second):
        assert float(prior.nearest(embedding(voice))) < 0.7
    assert float((embedding(first) * embedding(second)).sum()) < draw.APART
    like = released.draw(seed=3, like=first, distance=0.4)
    assert 1 - float((embedding(first) * embedding(like)).sum()) == pytest.approx(0.4, abs=0.05)
