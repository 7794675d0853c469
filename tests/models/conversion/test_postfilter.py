import pytest
import torch

from tests.models.conversion.test_vae import CONFIG, speechlike
from vcvae.models.conversion.postfilter import PERIOD, Postfilter
from vcvae.models.conversion.vae import DisentanglingVAE


def make(weight=0.1):
    """A postfilter that is not, as a new one is, nothing."""
    torch.manual_seed(0)
    postfilter = Postfilter(80, features=24, condition=16, channels=32, blocks=2, kernel=3)
    torch.nn.init.normal_(postfilter.head.weight, std=weight)
    return postfilter


def arguments(batch, frames):
    generator = torch.Generator().manual_seed(1)
    shapes = (batch, frames, 80), (batch, frames, 80), (batch, -(-frames // 2), 24), (batch, 16)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_a_new_one_adds_nothing():
    postfilter, (median, moved, *rest) = make(weight=0.0), arguments(2, 11)
    torch.testing.assert_close(postfilter(median, moved, *rest), moved)


def test_training_draws_anew_and_evaluation_never():
    postfilter, inputs = make(), arguments(2, 11)
    assert not torch.equal(postfilter(*inputs), postfilter(*inputs))
    postfilter.eval()
    assert torch.equal(postfilter(*inputs), postfilter(*inputs))
    torch.testing.assert_close(postfilter(*inputs)[:1], postfilter(*(x[:1] for x in inputs)))


def test_frame_by_frame_it_varies_where_what_it_hears_does_not():
    postfilter, (*told, style) = make().eval(), arguments(1, 200)
    added = postfilter(*map(torch.zeros_like, told), style)
    assert added.std(dim=1).mean() > 0.1
    assert added.diff(dim=1).abs().mean() > 0.5 * added.std(dim=1).mean()


def test_it_is_longer_than_its_noise():
    assert make().eval()(*arguments(1, PERIOD + 3)).shape == (1, PERIOD + 3, 80)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = DisentanglingVAE(CONFIG.model_copy(update={"postfilter_channels": 16, "postfilter_blocks": 1})).eval()
    torch.nn.init.normal_(model.decoder.postfilter.head.weight, std=0.1)
    return model


def test_padding_changes_no_postfilter(model):
    short, voice = speechlike(1, 37), model.voice(speechlike(1, 50, seed=3))
    padded = torch.nn.functional.pad(short, (0, 24), value=7.0)
    together = model.convert(padded, voice, lengths=torch.tensor([37]))
    torch.testing.assert_close(together[:, :, :37], model.convert(short, voice), atol=1e-4, rtol=1e-4)


def test_the_median_is_what_the_decoder_gave_before(model):
    mel = speechlike(1, 40)
    content, f0 = model.content(mel).mean, model.f0(mel)
    given = {"content": content, "reference": model.reference(mel, content), "f0": f0, "frames": 40}
    median = model.decoder(**given)
    postfilterd = model.decoder(**given, modulation=model.modulation(mel))
    assert (median - postfilterd).abs().mean() > 0.01
    model.decoder.postfilter = None
    assert torch.equal(model.decoder(**given), median)
