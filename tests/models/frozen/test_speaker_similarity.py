import pytest
import torch

from tests.corpus import EAR
from vcvae.errors import VcvaeError
from vcvae.features.fbank import filterbank
from vcvae.features.mel import MelSpectrogram
from vcvae.models.frozen.speaker_similarity import AROUND, SpeakerSimilarityNet, SpeakerSimilarityNetConfig

SMALL = SpeakerSimilarityNetConfig(**EAR)


@pytest.fixture
def listener():
    torch.manual_seed(0)
    return SpeakerSimilarityNet(SMALL).eval().requires_grad_(False)


def test_neither_level_nor_microphone_is_a_voice(listener):
    mel = torch.randn(2, 80, 50)
    heard = listener(mel)
    torch.testing.assert_close(heard.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(listener(mel + torch.randn(2, 80, 1)), heard, atol=1e-5, rtol=1e-5)
    assert (heard[0] - heard[1]).norm() > 1e-4
    assert listener(mel[:, :, :1]).isfinite().all()


def test_the_mel_is_told_at_the_times_of_the_filter_bank(listener):
    """A click is where the filter bank has it, to half a frame, and a second lasts a second."""
    samples = torch.zeros(1, 22050)
    samples[:, 11025] = 1.0
    retimed = listener.retimed(MelSpectrogram()(samples))[:, :, AROUND:-AROUND]
    bands = filterbank(torch.nn.functional.interpolate(samples[None], 16000)[0])
    assert abs(retimed.shape[2] - bands.shape[2]) <= 1
    weight = (retimed.exp() ** 2).sum(dim=(0, 1))
    assert float((weight * torch.arange(len(weight))).sum() / weight.sum()) == pytest.approx(50, abs=0.5)


def test_a_mel_of_other_bands_is_refused(listener):
    with pytest.raises(VcvaeError, match=r"\(batch, 80, frames\), not \(1, 40, 30\)"):
        listener(torch.randn(1, 40, 30))


def test_what_is_saved_hears_the_same(listener, tmp_path):
    listener.save_pretrained(tmp_path)
    mel = torch.randn(1, 80, 30)
    assert torch.equal(SpeakerSimilarityNet.from_pretrained(tmp_path)(mel), listener(mel))
