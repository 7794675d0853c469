import pytest
import torch

from tests.corpus import RECOGNIZER
from vcvae.models.packed import PackedConvolution
from vcvae.models.reader import Reader, ReaderConfig


@pytest.fixture
def reader():
    torch.manual_seed(0)
    return Reader(ReaderConfig(**RECOGNIZER, values=4)).eval().requires_grad_(False)


def test_the_same_is_read_as_the_same_and_a_gradient_says_how_to_come_nearer(reader):
    meant, spoken = (0.1 * torch.randn(1, 11025) for _ in range(2))
    assert reader.misread(meant, meant).item() == pytest.approx(0, abs=1e-6)
    spoken.requires_grad_()
    before = reader.misread(spoken, meant)
    before.backward()
    assert before > 0.05
    step = 0.01 * spoken.grad / spoken.grad.norm()
    with torch.no_grad():
        assert reader.misread(spoken - step, meant) < before < reader.misread(spoken + step, meant)


def test_it_comes_back_as_it_was_saved_with_its_weights_packed(reader, tmp_path):
    reader.half().save_pretrained(tmp_path)
    again, samples = Reader.from_pretrained(tmp_path), 0.1 * torch.randn(1, 11025)
    torch.testing.assert_close(again(samples), reader.float()(samples))
    assert any(isinstance(module, PackedConvolution) for module in again.modules())
    weights = sum(module.steps.numel() for module in again.modules() if isinstance(module, PackedConvolution))
    assert sum(x.numel() for name, x in again.state_dict().items() if name.endswith("digits")) <= weights / 4 + 20
