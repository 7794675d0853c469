import pytest
import torch

from tests.corpus import TINY_ECAPA
from vcvae.errors import VcvaeError
from vcvae.evaluate.plugins import VERIFIERS
from vcvae.features.fbank import FBANK_BANDS, filterbank
from vcvae.models.frozen.ecapa import (
    ECAPA_CHECKPOINT,
    AttentiveStatisticsPooling,
    EcapaConfig,
    EcapaTDNN,
    FrozenBatchNorm,
    ReflectConv1d,
    load_ecapa,
)

SMALL = EcapaConfig(**TINY_ECAPA)


def test_frozen_batch_norm_is_that_of_evaluation():
    scale = FrozenBatchNorm(5)
    scale.norm.running_mean.normal_()
    scale.norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(scale.norm.weight)
    x = torch.randn(3, 7, 5)
    torch.testing.assert_close(scale(x), scale.norm.eval()(x.mT).mT)


@pytest.mark.parametrize(("frames", "mode"), [(20, "reflect"), (2, "replicate")])
def test_reflect_convolution_is_a_convolution_over_time(frames, mode):
    layer = ReflectConv1d(3, 5, kernel=3, dilation=4)
    x = torch.randn(2, frames, 3)
    expected = layer.conv(torch.nn.functional.pad(x.mT, (4, 4), mode=mode)).mT
    torch.testing.assert_close(layer(x), expected)


def test_pooling_with_uniform_weights_is_mean_and_standard_deviation():
    pooling = AttentiveStatisticsPooling(3, 4).eval()
    torch.nn.init.zeros_(pooling.conv.conv.weight)
    x = torch.randn(2, 50, 3)
    torch.testing.assert_close(pooling(x), torch.cat([x.mean(1), x.std(1, unbiased=False)], dim=1))


def test_pooling_weights_frames_by_their_values_and_their_context():
    pooling = AttentiveStatisticsPooling(3, 4).eval()
    x = torch.randn(2, 50, 3)
    context = torch.cat([x.mean(1), x.std(1, unbiased=False)], dim=1)[:, None].expand(-1, 50, -1)
    weight = pooling.conv(torch.tanh(pooling.tdnn(torch.cat([x, context], dim=2)))).softmax(dim=1)
    mean = (weight * x).sum(dim=1)
    variance = (weight * x.square()).sum(dim=1) - mean.square()
    torch.testing.assert_close(pooling(x), torch.cat([mean, variance.sqrt()], dim=1))


def test_ecapa_is_invariant_to_the_levels_of_bands_and_takes_one_frame():
    network = EcapaTDNN(SMALL)
    bands = 20 * torch.randn(2, FBANK_BANDS, 40)
    torch.testing.assert_close(
        network(bands + 9 * torch.randn(2, FBANK_BANDS, 1)), network(bands), atol=1e-4, rtol=1e-4
    )
    assert network(bands[:, :, :1]).isfinite().all()


def test_load_ecapa_refuses_other_files_in_one_sentence(tmp_path):
    with pytest.raises(VcvaeError, match=f"no {ECAPA_CHECKPOINT} in this folder"):
        load_ecapa(tmp_path)
    (tmp_path / ECAPA_CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(VcvaeError, match="not an ECAPA-TDNN"):
        load_ecapa(tmp_path)
    torch.save(EcapaTDNN(SMALL).state_dict(), tmp_path / ECAPA_CHECKPOINT)
    with pytest.raises(VcvaeError, match=r"'asp\.conv\.conv\.bias' is"):
        load_ecapa(tmp_path)


def test_ecapa_has_the_names_and_sizes_of_the_public_checkpoint_and_evaluate_uses_it(tmp_path):
    """20.8 M weights, by the names that SpeechBrain gives them."""
    torch.manual_seed(0)
    network = EcapaTDNN().eval()
    names = network.state_dict().keys()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(20.8e6, rel=0.01)
    assert {"blocks.2.res2net_block.blocks.6.conv.conv.weight", "mfa.norm.norm.running_var", "fc.conv.bias"} <= names
    torch.save(network.state_dict(), tmp_path / ECAPA_CHECKPOINT)
    samples = 0.1 * torch.randn(8000)
    with torch.no_grad():
        expected = network(filterbank(samples[None]))[0]
    embedding = VERIFIERS["ecapa"](str(tmp_path)).embed(samples.numpy())
    torch.testing.assert_close(torch.from_numpy(embedding), expected)
