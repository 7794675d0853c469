import pytest
import torch
from safetensors.torch import load_file, save_file

from vcvae.errors import VcvaeError
from vcvae.models.hub import WEIGHTS
from vcvae.models.quantize import MIN_ROW, SCALE_SUFFIX, dequantize, quantize_int8
from vcvae.vocoder import SourceFilterVocoder, SourceFilterVocoderConfig

SMALL = SourceFilterVocoderConfig(channels=48, blocks=1, f0_channels=40, f0_blocks=1)


def test_quantize_rounds_weights_by_half_a_step_at_most():
    torch.manual_seed(0)
    weights = {"matrix": torch.randn(6, 4, MIN_ROW // 4), "short": torch.randn(6, MIN_ROW - 1), "bias": torch.randn(90)}
    stored = quantize_int8(weights)
    assert stored["matrix"].dtype == torch.int8
    assert stored.keys() - weights.keys() == {f"matrix{SCALE_SUFFIX}"}
    restored = dequantize(stored)
    assert restored.keys() == weights.keys()
    error = (restored["matrix"] - weights["matrix"]).abs().flatten(1).amax(dim=1)
    largest = weights["matrix"].abs().flatten(1).amax(dim=1)
    assert (error <= 0.505 * largest / 127).all()
    assert (error > 0).all()
    assert restored["short"] is weights["short"]
    assert restored["bias"] is weights["bias"]


def test_quantize_again_changes_nothing():
    stored = quantize_int8({"matrix": torch.randn(6, MIN_ROW)})
    again = quantize_int8(stored)
    assert again.keys() == stored.keys()
    assert all(torch.equal(again[name], stored[name]) for name in stored)


def test_quantized_model_is_smaller_and_loads(tmp_path):
    torch.manual_seed(0)
    model = SourceFilterVocoder(SMALL)
    expected = dequantize(quantize_int8(model.half().state_dict()))
    model.release(tmp_path / "half")
    model.release(tmp_path / "small", small=True)
    half = (tmp_path / "half" / WEIGHTS).stat().st_size
    small = (tmp_path / "small" / WEIGHTS).stat().st_size
    assert small < 0.7 * half
    loaded = SourceFilterVocoder.from_pretrained(tmp_path / "small").state_dict()
    for name, weight in expected.items():
        torch.testing.assert_close(loaded[name], weight.float(), atol=0, rtol=0)


def test_dequantize_refuses_a_scale_without_its_weight(tmp_path):
    SourceFilterVocoder(SMALL).release(tmp_path, small=True)
    stored = load_file(tmp_path / WEIGHTS)
    name = next(name for name in stored if name.endswith(SCALE_SUFFIX)).removesuffix(SCALE_SUFFIX)
    del stored[name]
    save_file(stored, tmp_path / WEIGHTS)
    with pytest.raises(VcvaeError, match="scales no int8 matrix"):
        SourceFilterVocoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("spoil", [lambda x: x.sum(), lambda x: x[:, 0], lambda x: x.float(), lambda x: x[:-1]])
@pytest.mark.parametrize("scale_first", [False, True])
def test_dequantize_refuses_a_spoiled_matrix_in_any_order(spoil, scale_first):
    stored = quantize_int8({"matrix": torch.ones(6, MIN_ROW)})
    stored["matrix"] = spoil(stored["matrix"])
    with pytest.raises(ValueError, match="scales no int8 matrix of as many rows"):
        dequantize(dict(sorted(stored.items(), reverse=scale_first)))
