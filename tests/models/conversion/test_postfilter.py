import pytest
import torch

from tests.models.conversion.test_vae import CONFIG, speechlike
from vcvae.models.conversion.postfilter import NOISE_PERIOD, Postfilter
from vcvae.models.conversion.vae import DisentanglingVAE


def make(weight=0.1):
    """A postfilter with random output weights; those of a new one are zero."""
    torch.manual_seed(0)
    postfilter = Postfilter(80, features=24, condition=16, channels=32, blocks=2, kernel=3, rank=4)
    torch.nn.init.normal_(postfilter.head.weight, std=weight)
    return postfilter


def arguments(batch, frames):
    generator = torch.Generator().manual_seed(1)
    shapes = (batch, frames, 80), (batch, frames, 80), (batch, -(-frames // 2), 24), (batch, 16)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_new_postfilter_adds_nothing():
    postfilter, (decoded, modulated, *rest) = make(weight=0.0), arguments(2, 11)
    torch.testing.assert_close(postfilter(decoded, modulated, *rest), modulated)


def test_postfilter_noise_is_random_in_training_and_constant_in_evaluation():
    postfilter, inputs = make(), arguments(2, 11)
    assert not torch.equal(postfilter(*inputs), postfilter(*inputs))
    postfilter.eval()
    assert torch.equal(postfilter(*inputs), postfilter(*inputs))
    torch.testing.assert_close(postfilter(*inputs)[:1], postfilter(*(x[:1] for x in inputs)))


def test_postfilter_varies_between_frames_of_constant_input():
    postfilter, (*inputs, style) = make().eval(), arguments(1, 200)
    added = postfilter(*map(torch.zeros_like, inputs), style)
    assert added.std(dim=1).mean() > 0.1
    assert added.diff(dim=1).abs().mean() > 0.5 * added.std(dim=1).mean()


def test_postfilter_takes_more_frames_than_its_noise_has():
    assert make().eval()(*arguments(1, NOISE_PERIOD + 3)).shape == (1, NOISE_PERIOD + 3, 80)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = DisentanglingVAE(CONFIG.model_copy(update={"postfilter_channels": 16, "postfilter_blocks": 1})).eval()
    torch.nn.init.normal_(model.decoder.postfilter.head.weight, std=0.1)
    return model


def test_postfilter_ignores_padding(model):
    short, voice = speechlike(1, 37), model.voice(speechlike(1, 50, seed=3))
    padded = torch.nn.functional.pad(short, (0, 24), value=7.0)
    together = model.convert(padded, voice, lengths=torch.tensor([37]))
    torch.testing.assert_close(together[:, :, :37], model.convert(short, voice), atol=1e-4, rtol=1e-4)


def test_decoder_applies_the_postfilter_only_when_asked(model):
    mel = speechlike(1, 40)
    content, f0 = model.content(mel).mean, model.f0(mel)
    arguments = {"content": content, "reference": model.reference(mel, content), "f0": f0, "frames": 40}
    modulation = model.modulation(mel)
    decoded = model.decoder(**arguments)
    modulated = model.decoder(**arguments, modulation=modulation)
    postfiltered = model.decoder(**arguments, modulation=modulation, postfilter=True)
    assert (decoded - modulated).abs().mean() > 0.01
    assert (modulated - postfiltered).abs().mean() > 0.01
    model.decoder.postfilter = None
    assert torch.equal(model.decoder(**arguments), decoded)
    assert torch.equal(model.decoder(**arguments, modulation=modulation, postfilter=True), modulated)
