import pytest
import torch
from torch.nn import functional as F

from vcvae.training import losses
from vcvae.training.discriminators.mel import (
    MelDiscriminator,
    MelDiscriminatorConfig,
    PatchDiscriminator,
    PatchDiscriminatorConfig,
)


def make(kind=MelDiscriminator):
    torch.manual_seed(0)
    config = {
        MelDiscriminator: MelDiscriminatorConfig(channels=16),
        PatchDiscriminator: PatchDiscriminatorConfig(channels=(8, 16), strides=((1, 2), (2, 2))),
    }
    return kind(config[kind], n_mels=20, speaker_latent=8)


both = pytest.mark.parametrize("kind", [MelDiscriminator, PatchDiscriminator])


def test_mel_discriminator_scores_groups_of_frames():
    discriminator = make()
    features = discriminator.features(torch.randn(3, 20, 30), torch.ones(3, 20))
    assert [f.shape for f in features] == [(3, 15, 16), (3, 15, 16), (3, 8, 16), (3, 8, 16)]
    assert discriminator.score(features, torch.randn(3, 8)).shape == (3, 8)


def test_patch_discriminator_scores_patches():
    discriminator = make(PatchDiscriminator)
    features = discriminator.features(torch.randn(3, 20, 30), torch.ones(3, 20))
    assert [f.shape for f in features] == [(3, 8, 30, 10), (3, 16, 15, 5)]
    assert discriminator.score(features, torch.randn(3, 8)).shape == (3, 15 * 5)


@both
def test_features_ignore_invalid_bands(kind):
    discriminator, mel, valid_bands = make(kind), torch.randn(1, 20, 30), torch.ones(1, 20)
    valid_bands[:, 12:] = 0
    changed = mel.clone()
    changed[:, 12:] += 3
    torch.testing.assert_close(
        discriminator.features(mel, valid_bands)[-1], discriminator.features(changed, valid_bands)[-1]
    )


@both
def test_discriminator_learns_which_speaker_a_mel_belongs_to(kind):
    """Mels of two kinds, two speakers: only the pairing can be learned."""
    discriminator = make(kind)
    speakers = F.normalize(torch.randn(2, 8), dim=1)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)

    def batch():
        which = torch.arange(16) % 2
        return torch.randn(16, 20, 12) + 2.0 * (which[:, None, None] - 0.5) - 4.5, speakers[which], speakers[1 - which]

    for _ in range(60):
        mel, own, other = batch()
        features = discriminator.features(mel, torch.ones(16, 20))
        loss = losses.discriminator_loss([discriminator.score(features, own)], [discriminator.score(features, other)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
