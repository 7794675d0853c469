import torch

from tests.corpus import EAR
from vcvae.models.ecapa import BANDS, EcapaConfig, EcapaTDNN, Ranks
from vcvae.training.thinning import least_squares, thin

FULL = Ranks(entry=16, frame=16, group=4, gate=8, aggregate=48, attention=8, head=6)


def make(ranks=None, seed=0):
    torch.manual_seed(seed)
    return EcapaTDNN(EcapaConfig(**EAR, ranks=ranks)).eval().requires_grad_(False)


def heard():
    """Bands that move together, along six directions."""
    torch.manual_seed(1)
    return [20 * torch.randn(1, 6, 60).mT.matmul(torch.randn(6, BANDS)).mT for _ in range(4)]


def test_of_full_rank_it_is_the_same_network():
    whole, thinned = make(), make(FULL, seed=3)
    for name, module in whole.named_modules():
        if name.endswith("norm.norm"):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    thin(whole, thinned, heard())
    new = 20 * torch.randn(2, BANDS, 70)
    torch.testing.assert_close(thinned(new), whole(new), atol=1e-4, rtol=1e-4)
    assert not any(module._forward_pre_hooks for module in whole.modules())


def test_no_layer_of_its_rank_is_nearer_on_what_is_heard():
    """What is lost of what a layer says is all but the main directions of that: Eckart and Young 1936."""
    whole, bands = make(), heard()
    thinned = make(FULL.model_copy(update={"entry": 6}), seed=3)
    thin(whole, thinned, bands)
    layer, kept = whole.blocks[0].conv, thinned.blocks[0].conv
    said, missed = [], []
    for x in bands:
        centred = x - x.mean(dim=2, keepdim=True)
        said.append(layer(centred)[0] - layer.conv.bias[:, None])
        missed.append(layer(centred)[0] - kept(centred)[0])
    lost = torch.linalg.svdvals(torch.cat(said, dim=1))[6:].square().sum()
    torch.testing.assert_close(torch.cat(missed, dim=1).square().sum(), lost, rtol=1e-3, atol=0)


def test_least_squares_finds_a_linear_map():
    torch.manual_seed(0)
    weight, shift = torch.randn(3, 5), torch.randn(3)
    inputs = torch.randn(200, 5) - 4
    found = least_squares(inputs, inputs @ weight.T + shift)
    torch.testing.assert_close(found, (weight, shift), atol=1e-3, rtol=1e-3)
