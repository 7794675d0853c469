import torch
from torch import nn

from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.hub import fingerprint


def test_fingerprint_is_of_what_is_saved(tiny_model):
    """It survives saving in float16, and tells other weights, other names and other classes apart."""
    model = DisentanglingVAE.from_pretrained(tiny_model)
    first = fingerprint(model)
    assert len(first) == 16
    assert fingerprint(DisentanglingVAE.from_pretrained(tiny_model).half()) == first
    assert fingerprint(model.half().float()) == first
    with torch.no_grad():
        model.decoder.head.bias[0] += 0.1
    assert fingerprint(model) != first


def test_fingerprint_depends_on_names_and_class():
    torch.manual_seed(0)
    linear = nn.Linear(3, 3)
    modules = [linear, nn.Sequential(linear), nn.ModuleList([linear]), nn.ModuleDict({"a": linear})]
    assert len({fingerprint(module) for module in modules}) == 4
