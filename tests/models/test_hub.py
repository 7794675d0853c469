import pytest
import torch
from safetensors.torch import load_file, save_file

from vcvae.errors import VcvaeError
from vcvae.models.hub import MIN_ROW, SCALE_SUFFIX, WEIGHTS, quantize_int8
from vcvae.vocoder import SourceFilterVocoder, SourceFilterVocoderConfig

SMALL = SourceFilterVocoderConfig(channels=48, blocks=1, f0_channels=40, f0_blocks=1)


def test_a_weight_in_a_byte_is_off_by_half_a_step_at_most(tmp_path):
    torch.manual_seed(0)
    model = SourceFilterVocoder(SMALL)
    model.half().save_pretrained(tmp_path)
    before = (tmp_path / WEIGHTS).stat().st_size
    quantize_int8(tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_size < 0.7 * before
    again = SourceFilterVocoder.from_pretrained(tmp_path).state_dict()
    shrunk = 0
    for name, weight in model.state_dict().items():
        error = (again[name] - weight.float()).abs()
        if weight.ndim > 1 and weight[0].numel() >= MIN_ROW:
            shrunk += 1
            largest = weight.float().flatten(1).abs().amax(dim=1)
            assert (error.flatten(1).amax(dim=1) <= 0.505 * largest / 127).all()
            assert error.any()
        else:
            assert not error.any()
    assert shrunk > 4
    # Once more changes nothing: what is in bytes is left as it is.
    stored = load_file(tmp_path / WEIGHTS)
    quantize_int8(tmp_path)
    assert all(torch.equal(x, stored[name]) for name, x in load_file(tmp_path / WEIGHTS).items())


def test_a_step_without_its_weight_is_refused(tmp_path):
    SourceFilterVocoder(SMALL).half().save_pretrained(tmp_path)
    quantize_int8(tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    name = next(name for name in stored if name.endswith(SCALE_SUFFIX)).removesuffix(SCALE_SUFFIX)
    del stored[name]
    save_file(stored, tmp_path / WEIGHTS)
    with pytest.raises(VcvaeError, match="not the weights"):
        SourceFilterVocoder.from_pretrained(tmp_path)
