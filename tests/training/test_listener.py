import re

import pytest
import torch

from tests.corpus import EAR, make_corpus
from vcvae import audio
from vcvae.data.manifest import Manifest
from vcvae.features.fbank import filterbank
from vcvae.features.mel import MelSpectrogram
from vcvae.models.frozen.ecapa import CHECKPOINT, EcapaConfig, EcapaTDNN
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet, SpeakerSimilarityNetConfig
from vcvae.training import listener
from vcvae.training.listener import LeastSquares, _drawn, _Heard, likeness, make_listener


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return EcapaTDNN(EcapaConfig(**EAR)).eval()


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path / "corpus", speakers=3)


def test_least_squares_finds_a_linear_map_part_by_part():
    torch.manual_seed(0)
    weight, shift, sums = torch.randn(3, 5), torch.randn(3), LeastSquares()
    for _ in range(4):
        inputs = torch.randn(50, 5) - 4
        sums.add(inputs, inputs @ weight.T + shift)
    torch.testing.assert_close(sums.solution(), (weight, shift), atol=1e-3, rtol=1e-3)


def test_it_hears_in_mels_what_the_teacher_hears_in_waveforms(teacher, corpus):
    paths = [path for path, _ in Manifest(corpus, 22050).utterances()]
    made = make_listener(teacher, paths, SpeakerSimilarityNetConfig(**EAR))
    cosines = []
    for path in paths:
        samples = audio.read(path, 22050)
        mel = MelSpectrogram()(torch.from_numpy(samples[: len(samples) // 256 * 256])[None])
        bands = filterbank(torch.from_numpy(audio.read(path, 16000))[None])
        with torch.no_grad():
            cosines.append(torch.cosine_similarity(made(mel), teacher.pooled_statistics(bands)).item())
    assert min(cosines) > 0.8
    assert likeness(made, teacher, paths) == pytest.approx(sum(cosines) / len(cosines), abs=0.01)


def test_the_command_writes_one_that_can_be_loaded_and_twice_the_same(teacher, corpus, tmp_path, vcvae, monkeypatch):
    monkeypatch.setattr(listener, "load_ecapa", lambda _: teacher)
    monkeypatch.setattr(listener, "SpeakerSimilarityNetConfig", lambda: SpeakerSimilarityNetConfig(**EAR))
    made = [tmp_path / name for name in ("one", "two")]
    for folder in made:
        code, out, _ = vcvae("listener", str(corpus), str(folder), "--count", "4")
        assert code == 0
        assert re.fullmatch(rf"{folder}: written; .* is (-?0\.\d\d|1\.00)\n", out)
    one, two = (SpeakerSimilarityNet.from_pretrained(folder).state_dict() for folder in made)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (made[0] / "README.md").is_file()
    code, _, err = vcvae("listener", str(corpus), str(made[0]))
    assert code == 2
    assert "--force" in err


def test_without_data_or_teacher_it_is_one_sentence(corpus, tmp_path, vcvae):
    (tmp_path / "empty").mkdir()
    code, _, err = vcvae("listener", str(corpus), str(tmp_path / "made"), "--teacher", str(tmp_path / "empty"))
    assert code == 2
    assert f"no {CHECKPOINT}" in err
    torch.save(EcapaTDNN().state_dict(), tmp_path / CHECKPOINT)
    code, _, err = vcvae("listener", str(tmp_path / "empty"), str(tmp_path / "made"), "--teacher", str(tmp_path))
    assert code == 2
    assert "not prepared audio" in err
    assert not (tmp_path / "made").exists()


def test_judges_are_of_none_that_it_is_made_of(tmp_path, monkeypatch):
    monkeypatch.setattr(listener, "JUDGES", 3)
    corpus = make_corpus(tmp_path / "corpus", speakers=4, utterances=2)
    used, judges = _drawn(corpus, 22050, count=4, seed=0)
    assert (len(used), len(judges)) == (4, 3)
    assert not set(used) & set(judges)
    assert _drawn(corpus, 22050, count=4, seed=0) == (used, judges)
    assert _drawn(corpus, 22050, count=4, seed=1) != (used, judges)
    everything, none = _drawn(corpus, 22050, count=8, seed=0)
    assert {*used, *judges} < set(everything)
    assert none == []


def test_of_a_recording_whole_frames_of_the_first_seconds_are_heard(tmp_path, monkeypatch):
    monkeypatch.setattr(listener, "LONGEST", 0.5)
    ((path, _),) = Manifest(make_corpus(tmp_path, speakers=1, utterances=1, seconds=1.5), 22050).utterances()
    mel, bands = _Heard(MelSpectrogram().config)(path)
    assert mel.shape == (1, 80, 11025 // 256)
    assert bands.shape == (1, 80, 1 + round(11025 // 256 * 256 / 22050 * 16000) // 160)
