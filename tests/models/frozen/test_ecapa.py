import math

import pytest
import torch

from tests.corpus import EAR
from vcvae.errors import VcvaeError
from vcvae.evaluate.plugins import VERIFIERS
from vcvae.features.fbank import FBANK_BANDS, filterbank
from vcvae.models.frozen import ecapa
from vcvae.models.frozen.ecapa import (
    CHECKPOINT,
    AttentiveStatisticsPooling,
    EcapaConfig,
    EcapaTDNN,
    FrozenBatchNorm,
    load_ecapa,
)

SMALL = EcapaConfig(**EAR)


def test_the_filter_bank_finds_a_tone_in_its_band():
    top = 2595 * math.log10(1 + 8000 / 700)
    for band in (10, 40, 70):  # counted from 0; triangles are even on the mel scale
        hertz = 700 * (10 ** ((band + 1) * top / (FBANK_BANDS + 1) / 2595) - 1)
        tone = 0.1 * torch.sin(2 * math.pi * hertz * torch.arange(16000) / 16000)
        bands = filterbank(tone[None])
        assert bands.shape == (1, FBANK_BANDS, 101)
        assert int(bands[0, :, 50].argmax()) == band
        louder = filterbank(10 * tone[None])
        torch.testing.assert_close(louder[0, band] - bands[0, band], torch.full((101,), 20.0), atol=1e-2, rtol=0)
        assert float(bands.amax() - bands.amin()) <= 80.001


def test_a_gradient_passes_also_after_somebody_only_listened():
    """What is kept between calls must not be of the mode of the first."""
    ecapa._triangles.cache_clear()
    samples = 0.1 * torch.randn(1, 4000)
    with torch.inference_mode():
        filterbank(samples)
    samples.requires_grad_()
    filterbank(samples).sum().backward()
    assert samples.grad.abs().sum() > 0


def test_a_normalization_is_that_of_evaluation():
    scale = FrozenBatchNorm(5)
    scale.norm.running_mean.normal_()
    scale.norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(scale.norm.weight)
    x = torch.randn(3, 5, 7)
    torch.testing.assert_close(scale(x), scale.norm.eval()(x))


def test_pooling_that_weighs_all_frames_alike_is_mean_and_deviation():
    pooling = AttentiveStatisticsPooling(3, 4, packed=False).eval()
    torch.nn.init.zeros_(pooling.conv.conv.weight)
    x = torch.randn(2, 3, 50)
    expected = torch.cat([x.mean(2, keepdim=True), x.std(2, keepdim=True, unbiased=False)], dim=1)
    torch.testing.assert_close(pooling(x), expected)


def test_levels_of_bands_do_not_count_and_short_sounds_are_heard():
    network = EcapaTDNN(SMALL)
    bands = 20 * torch.randn(2, FBANK_BANDS, 40)
    torch.testing.assert_close(network(bands + 9 * torch.randn(2, FBANK_BANDS, 1)), network(bands), atol=1e-4, rtol=1e-4)
    assert network(bands[:, :, :1]).isfinite().all()


def test_what_is_no_checkpoint_is_one_sentence(tmp_path):
    with pytest.raises(VcvaeError, match=f"no {CHECKPOINT} in this folder"):
        load_ecapa(tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(VcvaeError, match="not an ECAPA-TDNN"):
        load_ecapa(tmp_path)
    torch.save(EcapaTDNN(SMALL).state_dict(), tmp_path / CHECKPOINT)
    with pytest.raises(VcvaeError, match=r"'asp\.conv\.conv\.bias' is"):
        load_ecapa(tmp_path)


def test_the_public_checkpoint_s_names_and_sizes_fit_and_evaluate_can_ask_it(tmp_path):
    """20.8 M weights, by the names that SpeechBrain gives them."""
    torch.manual_seed(0)
    network = EcapaTDNN().eval()
    names = network.state_dict().keys()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(20.8e6, rel=0.01)
    assert {"blocks.2.res2net_block.blocks.6.conv.conv.weight", "mfa.norm.norm.running_var", "fc.conv.bias"} <= names
    torch.save(network.state_dict(), tmp_path / CHECKPOINT)
    samples = 0.1 * torch.randn(8000)
    with torch.no_grad():
        expected = network(filterbank(samples[None]))[0]
    heard = VERIFIERS["ecapa"](str(tmp_path)).embed(samples.numpy())
    torch.testing.assert_close(torch.from_numpy(heard), expected)
