import pytest
import torch

from recipes.release import frozen_networks
from recipes.release.frozen_networks import draw_recordings, factorize, main, make_speaker_network, mean_cosine
from tests.corpus import TINY_ECAPA, TINY_RECOGNIZER
from vcvae import audio
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelSpectrogram
from vcvae.models.frozen.content import ContentNet
from vcvae.models.frozen.ecapa import ECAPA_CHECKPOINT, EcapaConfig, EcapaTDNN
from vcvae.models.frozen.moonshine import MoonshineConfig, MoonshineEncoder
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet, SpeakerSimilarityNetConfig


@pytest.fixture
def ecapa():
    torch.manual_seed(0)
    return EcapaTDNN(EcapaConfig(**TINY_ECAPA)).eval()


@pytest.fixture
def recordings(corpus):
    """The folder of the recordings of which the corpus was prepared."""
    return corpus.parents[1] / "source"


def test_speaker_network_gives_for_mels_what_the_original_gives_for_waveforms(ecapa, recordings):
    paths = audio.find(recordings)
    net = make_speaker_network(ecapa, paths[:-2])
    assert mean_cosine(net, ecapa, paths[-2:]) > 0.8
    untrained = SpeakerSimilarityNet(SpeakerSimilarityNetConfig(**TINY_ECAPA)).eval()
    assert mean_cosine(untrained, ecapa, paths[-2:]) < 0.7


def test_factorized_network_of_full_rank_is_the_network_and_of_less_is_near_it(ecapa, recordings):
    paths = audio.find(recordings)
    net = make_speaker_network(ecapa, paths[:4])
    mel = torch.randn(2, 80, 60) - 5
    torch.testing.assert_close(factorize(net, paths, block_rank=1, pooled_rank=1)(mel), net(mel), atol=1e-3, rtol=1e-3)
    small = factorize(net, paths, block_rank=0.25, pooled_rank=0.25)
    assert sum(x.numel() for x in small.parameters()) < sum(x.numel() for x in net.parameters())
    spectrogram = MelSpectrogram(net.config.mel)
    mel = spectrogram(torch.from_numpy(audio.read(paths[0], net.config.mel.sample_rate))[None])
    assert 0.8 < torch.cosine_similarity(small(mel), net(mel)).item() < 0.99999


def test_recordings_are_drawn_by_the_seed_and_none_is_in_both_parts(recordings, tmp_path):
    fitted, held_out = draw_recordings(recordings, count=5, held_out=2)
    assert (len(fitted), len(held_out)) == (5, 2)
    assert not set(fitted) & set(held_out)
    assert draw_recordings(recordings, count=5, held_out=2) == (fitted, held_out)
    assert draw_recordings(recordings, count=5, held_out=2, seed=1) != (fitted, held_out)
    assert draw_recordings(recordings, count=5, held_out=9)[0] == fitted
    most, one = draw_recordings(recordings, count=1000, held_out=40)  # a tenth of them at most is held out
    assert {*most, *one} == set(audio.find(recordings))
    assert len(one) == 1
    (tmp_path / "a.wav").touch()
    with pytest.raises(VcvaeError, match="holds one recording"):
        draw_recordings(tmp_path, count=5, held_out=2)


@pytest.mark.parametrize("factorized", [False, True])
def test_main_writes_a_speaker_network(ecapa, recordings, tmp_path, monkeypatch, capsys, factorized):
    monkeypatch.setattr(frozen_networks, "load_ecapa", lambda _: ecapa)
    arguments = ["speaker", str(tmp_path / "net"), "--recordings", str(recordings), "--count", "6"]
    main(arguments + ["--factorize"] * factorized)
    assert "other recordings: 0." in capsys.readouterr().out
    config = SpeakerSimilarityNet.from_pretrained(tmp_path / "net").config
    assert config.channels == TINY_ECAPA["channels"]
    assert bool(config.block_rank) == factorized
    card = (tmp_path / "net" / "README.md").read_text()
    assert "of 6 recordings" in card
    assert ("in two factors" in card) == factorized
    with pytest.raises(SystemExit, match="--force"):
        main(arguments)


def test_main_writes_a_content_network_that_is_nearly_the_recognizer(tmp_path, monkeypatch):
    torch.manual_seed(0)
    moonshine = MoonshineEncoder(MoonshineConfig(**TINY_RECOGNIZER | {"channels": 32})).eval().requires_grad_(False)
    samples = 0.1 * torch.randn(1, 16000)
    expected = moonshine(samples)
    monkeypatch.setattr(frozen_networks, "load_moonshine", lambda _: moonshine)
    main(["content", str(tmp_path / "net")])
    net = ContentNet.from_pretrained(tmp_path / "net")
    assert 0.99 < torch.cosine_similarity(net.encoder(samples), expected).mean() < 0.999999
    weights = sum(x.numel() for x in net.parameters())
    assert (tmp_path / "net" / "model.safetensors").stat().st_size < 1.5 * weights


def test_main_names_what_is_missing_and_writes_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    arguments = ["speaker", str(tmp_path / "net"), "--recordings", str(tmp_path / "empty")]
    with pytest.raises(SystemExit, match=f"no {ECAPA_CHECKPOINT} in this folder"):
        main([*arguments, "--checkpoint", str(tmp_path / "empty")])
    torch.save(EcapaTDNN().state_dict(), tmp_path / ECAPA_CHECKPOINT)
    with pytest.raises(SystemExit, match="no folder with audio files"):
        main([*arguments, "--checkpoint", str(tmp_path)])
    assert not (tmp_path / "net").exists()
