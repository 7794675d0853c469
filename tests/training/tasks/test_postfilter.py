import math

import pytest
import torch

from tests.corpus import NO_FILES, TINY, speech_batch
from vcvae.errors import VcvaeError
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.training.tasks.postfilter import PostfilterConfig, PostfilterTask


@pytest.fixture
def batch():
    """Two speakers, four segments each; the second is band-limited."""
    return speech_batch([[8000.0] * 4, [4000.0] * 4], seconds=0.5, f0_step=80)


@pytest.fixture
def task(tmp_path):
    torch.manual_seed(0)
    DisentanglingVAE(DisentanglingConfig(**TINY)).save_pretrained(tmp_path)
    return PostfilterTask(PostfilterConfig(**NO_FILES, converter=str(tmp_path), channels=24, blocks=1), speakers=2)


def test_model_with_a_postfilter_of_another_size_is_an_error(task, tmp_path):
    task.released.save_pretrained(tmp_path / "with")
    again = PostfilterConfig(**NO_FILES, converter=str(tmp_path / "with"), channels=24, blocks=1)
    assert again.model == task.model.config
    with pytest.raises(VcvaeError, match="1 blocks of 24 channels"):
        PostfilterConfig(**NO_FILES, converter=str(tmp_path / "with"), channels=16, blocks=1).model  # noqa: B018


def test_forward_trains_the_postfilter_and_its_discriminator_only(task, batch):
    totals, _ = task(batch, 0)
    for group, total in totals.items():
        total.backward(inputs=task.parameter_groups()[group], retain_graph=True)
    trained = {name for name, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert all(name.startswith(("model.decoder.postfilter.", "discriminator.")) for name in trained)
    assert any(name.startswith("model.decoder.postfilter.") for name in trained)


def test_released_is_the_conversion_model_with_the_ema_of_the_postfilter(task):
    start = {name: value.clone() for name, value in task.model.state_dict().items()}
    for parameter in task.model.decoder.postfilter.parameters():
        parameter.data += 1.0
    task.after_step()
    released = task.released.state_dict()
    assert released.keys() == start.keys()
    for name, value in released.items():
        if name.startswith("decoder.postfilter."):
            assert torch.equal(value, task.ema.module.state_dict()[name.removeprefix("decoder.postfilter.")])
        else:
            assert torch.equal(value, start[name])
    assert not any(p.requires_grad for p in task.released.parameters())


def test_delta_ratio_is_relative_to_the_recorded_mels(task, batch, monkeypatch):
    mel = task.segment_batch.prepare(batch)[1]

    def decode(*_inputs, modulation=None, **_options):
        return mel.mean(dim=2, keepdim=True).expand_as(mel) if modulation is None else mel

    averaged = task.released
    monkeypatch.setattr(averaged.decoder, "forward", decode)
    monkeypatch.setattr(PostfilterTask, "released", averaged)
    figures = {"delta_ratio": pytest.approx(1), "delta_ratio_unfiltered": pytest.approx(0)}
    assert task.validate([batch]).figures == figures | {"delta_ratio_error": pytest.approx(0)}


def test_delta_ratio_ignores_silence_and_invalid_bands(task, batch):
    """Figures are finite even if there is nothing else."""
    silent = batch | {"samples": torch.zeros_like(batch["samples"])}
    unknown = batch | {"bandwidth": torch.zeros_like(batch["bandwidth"])}
    alone = task.validate([unknown]).figures
    assert alone == {"delta_ratio": 0.0, "delta_ratio_unfiltered": 0.0, "delta_ratio_error": 1.0}
    assert all(math.isfinite(value) for value in task.validate([silent]).figures.values())
    assert task.validate([unknown, batch]).figures == pytest.approx(task.validate([batch]).figures)


@pytest.mark.slow
def test_postfilter_learns_the_deltas_of_noise(task, batch):
    """White noise, a decoder that outputs a constant, and a modulation with almost no information."""
    high_cutoff = {"modulation_cutoff": 40.0}
    for model in (task.model, task.released):
        model.config = model.config.model_copy(update=high_cutoff)
    task.config = task.config.model_copy(update={"modulation_cutoffs": (40.0, 40.0)})
    batch["samples"] = 0.1 * torch.randn(batch["samples"].shape, generator=torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(task.model.decoder.head.weight)
    torch.nn.init.zeros_(task.released.decoder.head.weight)
    optimizers = {name: torch.optim.Adam(parameters, lr=3e-3) for name, parameters in task.parameter_groups().items()}
    task.train()
    torch.manual_seed(0)
    before = task.validate([batch]).figures
    for step in range(40):
        totals, _ = task(batch, step)
        for name, optimizer in optimizers.items():
            optimizer.zero_grad()
            totals[name].backward(inputs=task.parameter_groups()[name], retain_graph=True)
        for optimizer in optimizers.values():
            optimizer.step()
        task.after_step()
    after = task.validate([batch]).figures
    assert before["delta_ratio"] < 0.2
    assert after["delta_ratio"] > before["delta_ratio"] + 0.2
    assert after["delta_ratio_unfiltered"] == pytest.approx(before["delta_ratio_unfiltered"])
