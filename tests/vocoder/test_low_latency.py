import pytest
import torch

from vcvae.features.f0 import F0Contour
from vcvae.vocoder.low_latency import LowLatencyStream
from vcvae.vocoder.source_filter import SourceFilterVocoder, SourceFilterVocoderConfig


@pytest.fixture(scope="module")
def vocoder():
    torch.manual_seed(0)
    config = SourceFilterVocoderConfig(channels=16, blocks=2, f0_channels=8, f0_blocks=1)
    return SourceFilterVocoder(config).eval().for_predicted_mels()


def stream_all(vocoder, mel, f0, *, step, look_ahead):
    stream, pieces, done, frames = LowLatencyStream(vocoder), [], 0, mel.shape[2]
    for end in range(step, frames + look_ahead + step, step):
        final = min(end - look_ahead, frames)
        if final > done:
            pieces.append(stream.push(mel[:, :, done:end], f0[:, done:end], final - done))
            done = final
    return torch.cat(pieces, dim=1), stream


@pytest.mark.parametrize("step", [1, 4, 7])
def test_low_latency_stream_with_enough_look_ahead_equals_the_whole(vocoder, step):
    torch.manual_seed(1)
    mel = torch.randn(1, 80, 60) - 6
    f0 = F0Contour(7 + torch.linspace(0, 0.5, 60)[None], torch.ones(1, 60))
    samples, stream = stream_all(vocoder, mel, f0, step=step, look_ahead=20)
    assert samples.shape[1] == 60 * 256 - stream.delay
    whole = vocoder.stream()
    expected = torch.cat([whole.push(mel, f0), whole.finish()], dim=1)[:, : samples.shape[1]]
    inner = slice(1024, -1024)  # the ends of the whole have no neighbours
    error = (samples - expected)[:, inner].square().mean() / expected[:, inner].square().mean()
    assert error < 1e-4


def test_low_latency_stream_with_a_short_look_ahead_differs_little(vocoder):
    torch.manual_seed(1)
    mel = torch.randn(1, 80, 1).expand(1, 80, 60) - 6 + 0.1 * torch.randn(1, 80, 60)
    f0 = F0Contour(torch.full((1, 60), 7.0), torch.ones(1, 60))
    long, _ = stream_all(vocoder, mel, f0, step=4, look_ahead=20)
    short, _ = stream_all(vocoder, mel, f0, step=4, look_ahead=2)
    assert (long - short).square().mean() < 0.05 * long.square().mean()
