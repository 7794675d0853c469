import pytest
import torch

from tests.corpus import NO_FILES, TINY, TINY_ECAPA, TINY_RECOGNIZER, speech_batch
from vcvae.conversion_losses import ConversionLosses
from vcvae.errors import VcvaeError
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.encoders import CENTRE_MOMENTUM
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.frozen.content import ContentNet, ContentNetConfig
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet, SpeakerSimilarityNetConfig
from vcvae.training.tasks import conversion_losses
from vcvae.training.tasks.conversion_losses import (
    ConversionLossesConfig,
    ConversionLossesTask,
    ConversionLossWeights,
)
from vcvae.vocoder import SourceFilterVocoder, SourceFilterVocoderConfig

TERMS = tuple(ConversionLossWeights.model_fields)


@pytest.fixture(scope="module")
def batch():
    """Two speakers, four segments each."""
    return speech_batch([[8000.0] * 4] * 2, seconds=0.5, f0_step=80)


@pytest.fixture
def config(tmp_path, monkeypatch):
    torch.manual_seed(0)
    frozen = ConversionLosses(
        SpeakerSimilarityNet(SpeakerSimilarityNetConfig(**TINY_ECAPA)),
        ContentNet(ContentNetConfig(**TINY_RECOGNIZER)),
        SourceFilterVocoder(SourceFilterVocoderConfig(channels=16, blocks=1)),
    )
    monkeypatch.setattr(conversion_losses, "load_losses", lambda *_, **__: frozen)
    sizes = TINY | {"speaker_statistics": frozen.speaker_net.outputs, "statistics_latent": 5, "conditional_rank": 3}
    DisentanglingVAE(DisentanglingConfig(**sizes, postfilter_blocks=1, postfilter_channels=16)).save_pretrained(
        tmp_path
    )
    return ConversionLossesConfig(**NO_FILES, converter=str(tmp_path))


@pytest.fixture
def taking_asr_features(config):
    """The same with a model that takes ASR features."""
    model = DisentanglingVAE.from_pretrained(config.converter)
    sizes = model.config.model_copy(update={"asr_channels": TINY_RECOGNIZER["channels"]})
    DisentanglingVAE(sizes).save_pretrained(config.converter, force=True)
    return config


def learn(task, batch, steps, *, rate=3e-3):
    (parameters,) = task.parameter_groups().values()
    optimizer = torch.optim.Adam(parameters, lr=rate)
    task.train()
    for step in range(steps):
        totals, terms = task(batch, step)
        optimizer.zero_grad()
        totals["model"].backward()
        optimizer.step()
        task.after_step()
    return terms


@pytest.mark.parametrize("name", TERMS)
def test_step_down_the_gradient_of_a_term_lowers_it(config, batch, name):
    weights = dict.fromkeys(TERMS, 0.0) | {name: 1.0}
    update = {"conversion_share": 1.0, "weights": ConversionLossWeights(**weights)}
    task = ConversionLossesTask(config.model_copy(update=update), speakers=2)
    (parameters,) = task.parameter_groups().values()

    def loss():
        torch.manual_seed(1)
        return task(batch, 0)[0]["model"]

    loss()  # the bank is filled
    before = loss()
    gradients = torch.autograd.grad(before, parameters, allow_unused=True)
    norm = sum(gradient.square().sum() for gradient in gradients if gradient is not None).sqrt()
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter -= 0.01 * gradient / norm
    assert norm > 0
    assert loss() < before


def test_speaker_loss_is_low_where_the_conversion_has_the_targets_statistics(config, batch):
    task = ConversionLossesTask(config, speakers=3)
    statistics = task._statistics(task.segment_batch.prepare(batch)[1])
    speakers = torch.tensor([0, 1]).repeat(4)
    task._update_bank(statistics, speakers)
    assert not task.bank[2].any()
    right = task._speaker_loss(task.bank[:2], torch.tensor([0, 1]))
    wrong = task._speaker_loss(task.bank[:2], torch.tensor([1, 0]))
    assert right < 0.01 < 1 < wrong


def test_frozen_networks_and_f0_encoder_are_not_trained_nor_saved(config, batch):
    task = ConversionLossesTask(config, speakers=2)
    before = {name: x.clone() for name, x in task.frozen.state_dict().items()}
    f0 = {name: x.clone() for name, x in task.model.f0.state_dict().items()}
    learn(task, batch, 2)
    assert all(torch.equal(x, before[name]) for name, x in task.frozen.state_dict().items())
    assert all(torch.equal(x, f0[name]) for name, x in task.model.f0.state_dict().items())
    assert not any("net" in name for name in task.state_dict())


def test_reference_of_few_frames_keeps_the_embedding(config, batch):
    task = ConversionLossesTask(
        config.model_copy(update={"short_reference": 1.0, "short_reference_frames": 3}), speakers=2
    )
    mel = task.segment_batch.prepare(batch)[1]
    reference = task.model.reference(mel, task.model.content(mel).mean)
    few = task._drop_parts(reference)
    assert few.keys.shape[1] == few.values.shape[1] == few.mask.shape[1] == 3
    assert few.embedding is reference.embedding


def test_reference_without_statistics_is_one_that_the_model_makes_without(config, batch):
    task = ConversionLossesTask(config.model_copy(update={"no_statistics": 1.0, "short_reference": 0.0}), speakers=2)
    mel = task.segment_batch.prepare(batch)[1]
    content = task.model.content(mel).mean
    reference = task.model.reference(mel, content, statistics=task._statistics(mel))
    assert reference.statistics.abs().min() > 0
    without = task.model.reference(mel, content)
    torch.testing.assert_close(task._drop_parts(reference).statistics, without.statistics)


def test_centre_of_the_speaker_embeddings_is_measured_in_training(config, batch):
    task = ConversionLossesTask(config, speakers=2)
    learn(task, batch, 5, rate=0.0)
    released = task.eval().released
    mel, valid_bands = task.segment_batch.prepare(batch)[1:3]
    mean = released.speaker(mel, valid_bands=valid_bands).mean(dim=0)
    torch.testing.assert_close(released.speaker.centre, (1 - (1 - CENTRE_MOMENTUM) ** 5) * mean)


def test_centre_of_the_statistics_is_that_of_the_training_voices(config, batch):
    task = ConversionLossesTask(config, speakers=3)
    learn(task, batch, 2)
    torch.testing.assert_close(task.eval().released.statistics.centre, task.bank[:2].mean(dim=0))


def test_frozen_networks_and_vocoder_may_be_a_runs_own(config, tmp_path, monkeypatch):
    monkeypatch.undo()
    for name, network in (
        ("speaker_net", SpeakerSimilarityNet(SpeakerSimilarityNetConfig(**TINY_ECAPA))),
        ("content_net", ContentNet(ContentNetConfig(**TINY_RECOGNIZER))),
        ("vocoder", SourceFilterVocoder(SourceFilterVocoderConfig(channels=16, blocks=1))),
    ):
        network.save_pretrained(tmp_path / name)
        config = config.model_copy(update={name: str(tmp_path / name)})
    frozen = ConversionLossesTask(config, speakers=2).frozen
    assert frozen.speaker_net.config.channels == TINY_ECAPA["channels"]
    assert frozen.content_net.config.channels == TINY_RECOGNIZER["channels"]
    assert frozen.vocoder.config.channels == 16


def asr_gradient(config, batch):
    """Of the layer that takes the ASR features, in a step."""
    task = ConversionLossesTask(config, speakers=2)
    torch.manual_seed(1)
    totals, _ = task(batch, 0)
    return torch.autograd.grad(totals["model"], task.model.content.asr.to_mean.weight, allow_unused=True)[0]


@pytest.mark.parametrize("copied", [0.0, 1.0])
def test_conversions_have_the_asr_features_of_recordings_or_copies(taking_asr_features, batch, copied):
    update = {"no_asr_features": 0.0, "copied_asr_features": copied}
    gradient = asr_gradient(taking_asr_features.model_copy(update=update), batch)
    assert gradient.abs().max() > 0
    other = asr_gradient(taking_asr_features.model_copy(update=update | {"copied_asr_features": 1 - copied}), batch)
    assert not torch.allclose(gradient, other)


def test_conversions_without_asr_features_are_trained_too(taking_asr_features, batch):
    assert asr_gradient(taking_asr_features.model_copy(update={"no_asr_features": 1.0}), batch) is None


def test_model_for_another_recognizer_is_refused(config):
    sizes = DisentanglingVAE.from_pretrained(config.converter).config.model_copy(update={"asr_channels": 32})
    DisentanglingVAE(sizes).save_pretrained(config.converter, force=True)
    with pytest.raises(VcvaeError, match="takes 32 ASR features"):
        ConversionLossesTask(config, speakers=2)
