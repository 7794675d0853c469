import pytest
import torch
from safetensors.torch import save_file

from tests.corpus import RECOGNIZER
from vcvae.models.frozen.content import ContentNet, ContentNetConfig
from vcvae.models.frozen.moonshine import MoonshineConfig, MoonshineEncoder


@pytest.fixture
def reader():
    torch.manual_seed(0)
    return ContentNet(ContentNetConfig(**RECOGNIZER)).eval().requires_grad_(False)


def test_the_same_is_read_as_the_same_and_a_gradient_says_how_to_come_nearer(reader):
    meant, spoken = (0.1 * torch.randn(1, 11025) for _ in range(2))
    assert reader.misread(meant, meant).item() == pytest.approx(0, abs=1e-6)
    spoken.requires_grad_()
    before = reader.misread(spoken, meant)
    before.backward()
    assert before > 0.05
    step = 0.01 * spoken.grad / spoken.grad.norm()
    with torch.no_grad():
        assert reader.misread(spoken - step, meant) < before < reader.misread(spoken + step, meant)


def test_one_is_made_of_a_recognizer_and_reads_almost_as_it_does(tmp_path, vcvae, monkeypatch):
    torch.manual_seed(0)
    recognizer = MoonshineEncoder(MoonshineConfig(**RECOGNIZER | {"channels": 32})).eval().requires_grad_(False)
    samples = 0.1 * torch.randn(1, 16000)
    heard = recognizer(samples)
    monkeypatch.setattr("vcvae.models.frozen.content.load_moonshine", lambda _: recognizer)
    code, out, _ = vcvae("reader", str(tmp_path / "made"))
    assert (code, out) == (0, f"{tmp_path / 'made'}: written\n")
    made = ContentNet.from_pretrained(tmp_path / "made")
    assert 0.99 < torch.cosine_similarity(made.encoder(samples), heard).mean() < 0.999999
    weights = sum(x.numel() for x in made.parameters())
    assert (tmp_path / "made" / "model.safetensors").stat().st_size < 1.5 * weights
    assert (tmp_path / "made" / "README.md").is_file()
    code, _, err = vcvae("reader", str(tmp_path / "made"))
    assert code == 2
    assert "--force" in err


def test_what_is_no_recognizer_is_one_sentence_and_nothing_is_written(tmp_path, vcvae):
    (tmp_path / "empty").mkdir()
    code, _, err = vcvae("reader", str(tmp_path / "made"), "--recognizer", str(tmp_path / "empty"))
    assert code == 2
    assert "no model.safetensors in this folder" in err
    save_file({"model.encoder.conv1.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    code, _, err = vcvae("reader", str(tmp_path / "made"), "--recognizer", str(tmp_path))
    assert code == 2
    assert "by the smallest public checkpoint" in err
    assert not (tmp_path / "made").exists()
