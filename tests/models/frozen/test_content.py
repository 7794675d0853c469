import pytest
import torch

from tests.corpus import TINY_RECOGNIZER
from vcvae.models.frozen.content import ContentNet, ContentNetConfig


@pytest.fixture
def net():
    torch.manual_seed(0)
    return ContentNet(ContentNetConfig(**TINY_RECOGNIZER)).eval().requires_grad_(False)


def test_content_loss_is_zero_for_the_same_content_and_its_gradient_leads_there(net):
    source = 0.1 * torch.randn(1, 11025)
    converted = 0.1 * torch.randn(1, 11025)
    assert net.content_loss(source, source).item() == pytest.approx(0, abs=1e-6)
    converted.requires_grad_()
    before = net.content_loss(converted, source)
    before.backward()
    assert before > 0.05
    step = 0.01 * converted.grad / converted.grad.norm()
    with torch.no_grad():
        assert net.content_loss(converted - step, source) < before < net.content_loss(converted + step, source)
