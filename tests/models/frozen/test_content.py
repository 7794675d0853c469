import pytest
import torch

from tests.corpus import TINY_RECOGNIZER
from vcvae.models.frozen.content import ContentNet, ContentNetConfig


@pytest.fixture
def net():
    torch.manual_seed(0)
    return ContentNet(ContentNetConfig(**TINY_RECOGNIZER)).eval().requires_grad_(False)


def test_distance_is_zero_for_the_same_content_and_its_gradient_leads_there(net):
    source = net(0.1 * torch.randn(1, 11025))
    converted = 0.1 * torch.randn(1, 11025)
    assert net.distance(source, source).item() == pytest.approx(0, abs=1e-6)
    converted.requires_grad_()
    before = net.distance(net(converted), source)
    before.backward()
    assert before > 0.05
    step = 0.01 * converted.grad / converted.grad.norm()
    with torch.no_grad():
        nearer, farther = (net.distance(net(converted + sign * step), source) for sign in (-1, 1))
    assert nearer < before < farther
