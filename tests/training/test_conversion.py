import pytest
import torch

from tests.corpus import TINY
from tests.synthetic import speak
from vcvae.mel import MelConfig
from vcvae.training.conversion import ConversionConfig, ConversionTask, equal_error_rate, known_bands

WHERE = {"output": "", "data": {"train": "", "dev": ""}}


@pytest.fixture
def batch():
    """Three speakers, two segments each."""
    samples = [
        [torch.from_numpy(speak("aiueo", pitch=100 + 50 * k, seconds=0.75, seed=i))[:16384] for i in range(2)]
        for k in range(3)
    ]
    return {
        "samples": torch.stack([torch.stack(pair) for pair in samples]),
        "bandwidth": torch.tensor([[8000.0, 8000.0], [5500.0, 8000.0], [4000.0, 4000.0]]),
        "speaker": torch.tensor([4, 7, 9]),
    }


def make(**changes):
    torch.manual_seed(0)
    return ConversionTask(ConversionConfig(**WHERE, model=TINY, **changes))


def test_every_term_reaches_the_part_that_it_is_for(batch):
    parts = {
        "reconstruction": {"content", "speaker", "decoder"},
        "kl": {"content"},
        "contrastive": {"speaker"},
        "pitch": {"pitch"},
        "recognition": {"content", "decoder"},
        "agreement": {"content", "decoder"},
        "adversarial": {"content", "speaker", "decoder"},
        "features": {"content", "speaker", "decoder"},
    }
    for term, expected in parts.items():
        others = {name: float(name == term) for name in parts}
        others["adversarial"] += 1e-9 * (term == "features")  # without the one, nobody looks for the other
        task = make(weights=others, conversions=0.5, conversions_from=0, kl_warmup=0)
        totals, terms = task(batch, 1)
        total = totals["model"]
        assert total.item() == pytest.approx(terms[term].item())
        total.backward(inputs=task.players()["model"])
        moved = {n.split(".")[1] for n, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert moved == expected, term


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_conversions_go_to_other_speakers(batch, monkeypatch, share):
    task = make(weights={"recognition": 1.0}, conversions_from=0, conversions=share)
    latents = []
    task.model.speaker.register_forward_hook(lambda _module, _inputs, output: latents.append(output.mean))
    decoded = []
    task.model.decoder.register_forward_pre_hook(lambda _module, inputs: decoded.append(inputs[1]))
    task(batch, 0)
    converted = decoded[1]
    assert len(converted) == max(1, int(share * 6))
    for i, wanted in enumerate(converted):
        torch.testing.assert_close(wanted, latents[0][(i - 1) % 3])


def test_the_decoder_gets_the_speaker_of_the_other_segment(batch):
    task = make()
    latents, decoded = [], []
    task.model.speaker.register_forward_hook(lambda _module, _inputs, output: latents.append(output.mean))
    task.model.decoder.register_forward_pre_hook(lambda _module, inputs: decoded.append(inputs[1]))
    task(batch, 0)
    torch.testing.assert_close(decoded[0], latents[0].roll(3, 0))


def test_the_kl_warms_up(batch):
    task = make(weights={"reconstruction": 0, "contrastive": 0, "pitch": 0, "kl": 1.0}, kl_warmup=100)
    for step, share in ((0, 0.0), (50, 0.5), (1000, 1.0)):
        torch.manual_seed(1)
        totals, terms = task(batch, step)
        assert totals["model"].item() == pytest.approx(share * terms["kl"].item())


def test_known_bands_end_at_the_bandwidth():
    known = known_bands(torch.tensor([3000.0, 7750.0, 11025.0]), MelConfig())
    assert known.sum(dim=1).tolist()[1:] == [80, 80]
    assert 45 < known[0].sum() < 60
    assert (known[0].diff() <= 0).all()


def test_equal_error_rate():
    assert equal_error_rate(torch.tensor([0.8, 0.9]), torch.tensor([0.1, 0.2, 0.3])) == 0
    assert equal_error_rate(torch.tensor([0.1, 0.2]), torch.tensor([0.8, 0.9])) == 1
    generator = torch.Generator().manual_seed(0)
    genuine, impostor = 2 + torch.randn(20000, generator=generator), torch.randn(20000, generator=generator)
    assert equal_error_rate(genuine, impostor) == pytest.approx(0.1587, abs=0.01)  # Φ(-1)


def test_validation_tells_a_figure_for_each_question(batch):
    task = make().eval()
    found = task.validate([batch, batch])
    figures, mels = found.figures, found.mels
    assert set(figures) == {
        "reconstruction",
        "content_consistency",
        "equal_error_rate",
        "retrieval",
        "converted_retrieval",
    }
    assert 0 <= figures["equal_error_rate"] <= 1
    assert -1 <= figures["content_consistency"] <= 1
    assert mels["converted"].shape == (80, 64)
