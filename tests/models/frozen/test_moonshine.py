import pytest
import torch
from safetensors.torch import save_file

from tests.corpus import TINY_RECOGNIZER
from vcvae.errors import VcvaeError
from vcvae.models.frozen import moonshine
from vcvae.models.frozen.moonshine import Attention, MoonshineConfig, MoonshineEncoder, apply_rotary, load_moonshine


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MoonshineEncoder(MoonshineConfig(**TINY_RECOGNIZER)).eval().requires_grad_(False)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with a public checkpoint of three layers, in miniature, and its weights."""
    config = MoonshineConfig(**TINY_RECOGNIZER | {"layers": 3})
    monkeypatch.setattr(moonshine, "MoonshineConfig", lambda: config)
    torch.manual_seed(1)
    network = MoonshineEncoder(config).eval().requires_grad_(False)
    weights = {}
    for name, x in network.state_dict().items():
        if name.endswith("_proj.bias") or name == "conv1.bias":
            x.zero_()  # which the public one lacks
        else:
            weights[f"model.encoder.{name}"] = x[..., 0].contiguous() if x.ndim == 3 and x.shape[2] == 1 else x
    weights["model.encoder.layer_norm.weight"] = torch.ones(16)
    weights["model.decoder.norm.weight"] = torch.ones(16)
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path, network, weights


def test_rotary_embedding_is_a_complex_rotation_of_pairs_and_leaves_the_rest():
    x = torch.randn(2, 5, 7, 36)
    pairs = torch.view_as_complex(x[..., :32].unflatten(-1, (16, 2)).contiguous())
    angle = torch.arange(7)[:, None] * 10000.0 ** (-torch.arange(16) / 16)
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    torch.testing.assert_close(apply_rotary(x), torch.cat([expected, x[..., 32:]], dim=-1))


def test_attention_is_that_of_the_paper_and_depends_on_positions():
    torch.manual_seed(0)
    attention = Attention(16, 2).requires_grad_(False)
    x = torch.randn(1, 16, 9)
    heads = [(p(x)[0].reshape(2, 8, 9)) for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
    query = apply_rotary(heads[0].mT)
    key = apply_rotary(heads[1].mT)
    value = heads[2].mT
    weight = (query @ key.mT / 8**0.5).softmax(dim=-1)
    expected = attention.o_proj((weight @ value).permute(0, 2, 1).reshape(1, 16, 9))
    torch.testing.assert_close(attention(x), expected)
    assert not torch.allclose(attention(x.flip(2)).flip(2), attention(x), atol=1e-3)


def test_encoder_gives_a_frame_every_384_samples_and_one_for_short_input(network):
    for samples in (1, 894, 895, 1278, 1279, 16000):
        features = network(0.1 * torch.randn(2, samples))
        assert features.shape == (2, 16, max(1, 1 + (samples - 895) // 384))
        assert features.isfinite().all()
    torch.testing.assert_close(features.mean(dim=1), torch.zeros(2, 40), atol=1e-5, rtol=0)


def test_load_moonshine_reads_a_public_checkpoint(published):
    folder, network, _ = published
    samples = 0.1 * torch.randn(1, 8000)
    torch.testing.assert_close(load_moonshine(folder)(samples), network(samples))


def test_load_moonshine_refuses_other_files_in_one_sentence(published, tmp_path):
    folder, _, weights = published
    with pytest.raises(VcvaeError, match=r"no model\.safetensors in this folder; give one of a Moonshine"):
        load_moonshine(tmp_path / "..")
    del weights["model.encoder.conv2.bias"]
    save_file(weights | {"model.encoder.conv3.bias": torch.ones(3)}, folder / "model.safetensors")
    with pytest.raises(VcvaeError, match=r"'conv3\.bias' is \(3,\) here and \(16,\)"):
        load_moonshine(folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(VcvaeError, match="not weights in safetensors' format"):
        load_moonshine(folder)
