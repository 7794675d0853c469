import pytest
import torch

from tests.models.test_disentangling import CONFIG, speechlike
from vcvae.models.disentangling import DisentanglingVAE
from vcvae.models.texture import PERIOD, Texture


def make(weight=0.1):
    """A texture that is not, as a new one is, nothing."""
    torch.manual_seed(0)
    texture = Texture(80, features=24, condition=16, channels=32, blocks=2, kernel=3)
    torch.nn.init.normal_(texture.head.weight, std=weight)
    return texture


def arguments(batch, frames):
    generator = torch.Generator().manual_seed(1)
    shapes = (batch, frames, 80), (batch, frames, 80), (batch, -(-frames // 2), 24), (batch, 16)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_a_new_one_adds_nothing():
    texture, (median, moved, *rest) = make(weight=0.0), arguments(2, 11)
    torch.testing.assert_close(texture(median, moved, *rest), moved)


def test_training_draws_anew_and_evaluation_never():
    texture, inputs = make(), arguments(2, 11)
    assert not torch.equal(texture(*inputs), texture(*inputs))
    texture.eval()
    assert torch.equal(texture(*inputs), texture(*inputs))
    torch.testing.assert_close(texture(*inputs)[:1], texture(*(x[:1] for x in inputs)))


def test_frame_by_frame_it_varies_where_what_it_hears_does_not():
    texture, (*told, style) = make().eval(), arguments(1, 200)
    added = texture(*map(torch.zeros_like, told), style)
    assert added.std(dim=1).mean() > 0.1
    assert added.diff(dim=1).abs().mean() > 0.5 * added.std(dim=1).mean()


def test_it_is_longer_than_its_noise():
    assert make().eval()(*arguments(1, PERIOD + 3)).shape == (1, PERIOD + 3, 80)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = DisentanglingVAE(CONFIG.model_copy(update={"texture_channels": 16, "texture_blocks": 1})).eval()
    torch.nn.init.normal_(model.decoder.texture.head.weight, std=0.1)
    return model


def test_padding_changes_no_texture(model):
    short, voice = speechlike(1, 37), model.voice(speechlike(1, 50, seed=3))
    padded = torch.nn.functional.pad(short, (0, 24), value=7.0)
    together = model.convert(padded, voice, lengths=torch.tensor([37]))
    torch.testing.assert_close(together[:, :, :37], model.convert(short, voice), atol=1e-4, rtol=1e-4)


def test_the_median_is_what_the_decoder_gave_before(model):
    mel = speechlike(1, 40)
    content, pitch = model.content(mel).mean, model.pitch(mel)
    given = {"content": content, "timbre": model.timbre(mel, content), "pitch": pitch, "frames": 40}
    median = model.decoder(**given)
    textured = model.decoder(**given, articulation=model.articulation(mel))
    assert (median - textured).abs().mean() > 0.01
    model.decoder.texture = None
    assert torch.equal(model.decoder(**given), median)
