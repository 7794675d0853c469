import pytest
import torch

from tests.corpus import TINY_ECAPA
from vcvae.errors import VcvaeError
from vcvae.features.fbank import filterbank
from vcvae.features.mel import MelSpectrogram
from vcvae.models.frozen.speaker_similarity import CONTEXT_FRAMES, SpeakerSimilarityNet, SpeakerSimilarityNetConfig

SMALL = SpeakerSimilarityNetConfig(**TINY_ECAPA)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SpeakerSimilarityNet(SMALL).eval().requires_grad_(False)


def test_embedding_is_invariant_to_the_gain_of_each_band(net):
    mel = torch.randn(2, 80, 50)
    embedding = net(mel)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(net(mel + torch.randn(2, 80, 1)), embedding, atol=1e-5, rtol=1e-5)
    assert (embedding[0] - embedding[1]).norm() > 1e-4
    assert net(mel[:, :, :1]).isfinite().all()


def test_resampled_frames_have_the_times_of_the_filter_bank(net):
    """A click is where the filter bank has it, to half a frame, and a second lasts a second."""
    samples = torch.zeros(1, 22050)
    samples[:, 11025] = 1.0
    resampled = net.resample_frames(MelSpectrogram()(samples))[:, :, CONTEXT_FRAMES:-CONTEXT_FRAMES]
    bands = filterbank(torch.nn.functional.interpolate(samples[None], 16000)[0])
    assert abs(resampled.shape[2] - bands.shape[2]) <= 1
    weight = (resampled.exp() ** 2).sum(dim=(0, 1))
    assert float((weight * torch.arange(len(weight))).sum() / weight.sum()) == pytest.approx(50, abs=0.5)


def test_speaker_net_refuses_a_mel_of_other_bands(net):
    with pytest.raises(VcvaeError, match=r"\(batch, 80, frames\), not \(1, 40, 30\)"):
        net(torch.randn(1, 40, 30))


def test_speaker_net_is_the_same_after_saving_and_loading(net, tmp_path):
    net.save_pretrained(tmp_path)
    mel = torch.randn(1, 80, 30)
    assert torch.equal(SpeakerSimilarityNet.from_pretrained(tmp_path)(mel), net(mel))
