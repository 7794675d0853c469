import pytest
import torch

from tests.corpus import NO_FILES, speech_batch
from vcvae.models.classic.autoencoder import VAE, AutoEncoder, DenoisingAutoEncoder
from vcvae.models.classic.elbo import bound
from vcvae.training.tasks.autoencoders import (
    AutoEncoderRun,
    AutoEncoderTask,
    DenoisingRun,
    DenoisingTask,
    VAERun,
    VAETask,
)

MEMBERS = {
    AutoEncoder: (AutoEncoderRun, AutoEncoderTask),
    DenoisingAutoEncoder: (DenoisingRun, DenoisingTask),
    VAE: (VAERun, VAETask),
}


@pytest.fixture
def batch():
    return speech_batch([[8000.0, 8000.0], [5500.0, 8000.0]], seconds=0.75, f0_step=50)


def make(kind, **changes):
    torch.manual_seed(0)
    run, task = MEMBERS[kind]
    values = NO_FILES | {"model": {"channels": 16, "blocks": 1, "latent": 4}} | changes
    return task(run.parse(values, context="test"), 2)


@pytest.mark.parametrize("kind", MEMBERS)
def test_task_learns(kind, batch):
    task = make(kind)
    optimizer, losses = torch.optim.Adam(task.parameter_groups()["model"], lr=0.01), []
    for step in range(30):
        torch.manual_seed(step)
        totals, terms = task(batch, step)
        losses.append(terms["nll"].item())
        optimizer.zero_grad()
        totals["model"].backward()
        optimizer.step()
        task.after_step()
    assert isinstance(task.released, kind)
    assert losses[-1] < 0.8 * losses[0]
    assert set(task.validate([batch]).figures) == {"input_l1", "reconstruction_l1"}


@pytest.mark.parametrize("kind", [AutoEncoder, DenoisingAutoEncoder])
def test_setup_initializes_with_principal_components(kind, batch):
    random, initialized = make(kind), make(kind)
    initialized.setup(iter([batch]))
    initialized.after_step()
    quieter = batch | {"samples": batch["samples"] / 2}
    before = random.validate([quieter]).figures["reconstruction_l1"]
    assert initialized.validate([quieter]).figures["reconstruction_l1"] < 0.5 * before


def test_encoder_input_is_corrupted_for_denoising_only(batch):
    for kind in MEMBERS:
        task = make(kind)
        samples = batch["samples"].flatten(0, 1)
        same = torch.allclose(task.encoder_input(samples), task.spectrogram(samples))
        assert same == (kind is not DenoisingAutoEncoder)


def test_vae_total_is_the_negative_elbo_per_frame(batch):
    task = make(VAE, kl_warmup=0, gain=(0.0, 0.0))
    batch["bandwidth"][:] = 11025.0
    totals = []
    for seed in range(200):
        torch.manual_seed(seed)
        with torch.no_grad():
            totals.append(task(batch, 1)[0]["model"])
    mel = task.spectrogram(batch["samples"].flatten(0, 1))
    expected = -bound(task.model, mel, samples=200).elbo.mean() / mel.shape[2]
    torch.testing.assert_close(torch.stack(totals).mean(), expected, atol=0.0, rtol=2e-3)


def test_kl_loss_has_beta_and_free_bits(batch):
    def kl_loss(**changes):
        task = make(VAE, **changes)
        mel = task.spectrogram(batch["samples"].flatten(0, 1))
        return task.kl_loss(task.model.encode(mel), mel.shape[2])

    plain, weighted = kl_loss(), kl_loss(beta=2.5)
    torch.testing.assert_close(plain[0], plain[1])
    torch.testing.assert_close(weighted[1], 2.5 * plain[0])
    shape = make(VAE).model.encode(torch.zeros(1, 80, 64)).mean.shape
    free = kl_loss(free_bits=1000.0)[1]
    assert free.item() == pytest.approx(4 * 1000.0 * shape[2] / 64)
