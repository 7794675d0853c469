import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.corpus import TINY, TINY_ECAPA, TINY_RECOGNIZER
from tests.synthetic import RATE, speak
from vcvae.convert import chunks
from vcvae.convert.encoder import ASR_OVERLAP, ASR_WINDOW, MAX_SOURCES, Encoder, average_voice
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelSpectrogram
from vcvae.models.conversion.asr_features import asr_features
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.frozen.content import ContentNet, ContentNetConfig
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet, SpeakerSimilarityNetConfig
from vcvae.pretrained import SENTENCES


@pytest.fixture
def encoder(model):
    return Encoder(model)


@pytest.fixture(scope="module")
def target():
    return speak("eoauis", f0=210, tract=1.15, seconds=2.0, seed=1)


def test_voice_averages_utterances(released, target):
    other = speak("iuoa", f0=190, tract=1.15, seconds=2.0, seed=2)
    first = released.voice([target])
    second = released.voice([other])
    both = released.voice([target, other])
    mean = (first.reference.embedding + second.reference.embedding)[0] / 2
    torch.testing.assert_close(both.reference.embedding[0], mean / mean.norm())
    for name in ("mean", "std"):
        expected = (getattr(first.f0_statistics, name) + getattr(second.f0_statistics, name)) / 2
        torch.testing.assert_close(getattr(both.f0_statistics, name), expected)
    frames = first.reference.keys.shape[1] + second.reference.keys.shape[1]
    assert both.reference.keys.shape[1] == frames


def test_average_voice_is_that_of_its_references(encoder, target):
    references = encoder.load_references([target])
    with torch.no_grad():
        expected = average_voice(encoder.model, references)
    torch.testing.assert_close(encoder.voice([target]).reference.values, expected.reference.values)


def test_voice_has_the_statistics_of_the_speaker_network_where_the_model_takes_them(target, monkeypatch):
    torch.manual_seed(0)
    net = SpeakerSimilarityNet(SpeakerSimilarityNetConfig(**TINY_ECAPA)).eval()
    monkeypatch.setattr(SpeakerSimilarityNet, "from_pretrained", lambda _: net)
    sizes = TINY | {"speaker_statistics": net.outputs, "statistics_latent": 5}
    encoder = Encoder(DisentanglingVAE(DisentanglingConfig(**sizes)))
    other = speak("iuoa", f0=110, seconds=2.0, seed=2)
    mels = [reference.mel for samples in (target, other) for reference in encoder.load_references([samples])]
    with torch.no_grad():
        expected = encoder.model.statistics(torch.cat([net(mel) for mel in mels]).mean(dim=0, keepdim=True))
    torch.testing.assert_close(encoder.voice([target, other]).reference.statistics, expected)
    another = Encoder(DisentanglingVAE(DisentanglingConfig(**TINY | {"speaker_statistics": net.outputs + 1})))
    assert another.speaker(target).shape == (TINY["speaker_latent"],)  # needs no such network
    with pytest.raises(VcvaeError, match=f"takes {net.outputs + 1} speaker statistics"):
        another.voice([target])


@pytest.fixture
def with_asr_features(monkeypatch):
    """An encoder whose content depends on the features of a recognizer."""
    torch.manual_seed(0)
    net = ContentNet(ContentNetConfig(**TINY_RECOGNIZER)).eval()
    monkeypatch.setattr(ContentNet, "from_pretrained", lambda _: net)
    model = DisentanglingVAE(DisentanglingConfig(**TINY, asr_channels=net.config.channels))
    torch.nn.init.normal_(model.content.asr.to_mean.weight)
    return Encoder(model)


def test_content_has_the_features_of_the_recognizer_where_the_model_takes_them(with_asr_features, target):
    encoder = with_asr_features
    mel = torch.from_numpy(encoder.mel(target))[None]
    with torch.no_grad():
        features = asr_features(encoder.content_net, torch.from_numpy(target)[None], encoder.mel_config)
        expected = encoder.model.content(mel, asr_features=features).mean[0].numpy()
        without = encoder.model.content(mel).mean[0].numpy()
    content = encoder.content(target)
    np.testing.assert_allclose(content, expected, atol=1e-4)
    assert np.abs(content - without).max() > 0.5


def test_keys_of_a_voice_are_content_without_the_features(with_asr_features, target):
    (reference,) = with_asr_features.load_references([target])
    with torch.no_grad():
        expected = with_asr_features.model.content(reference.mel).mean.mT
    torch.testing.assert_close(with_asr_features.voice([target]).reference.keys, expected)


@torch.inference_mode()
def test_features_of_long_recordings_are_computed_in_windows(with_asr_features):
    encoder = with_asr_features
    hop = encoder.mel_config.hop
    frames = 2 * ASR_WINDOW + 3 * ASR_OVERLAP
    samples = np.random.default_rng(0).standard_normal(frames * hop - 7).astype(np.float32)
    features = encoder.asr_features(samples)
    assert features.shape == (1, frames // 4, 2 * TINY_RECOGNIZER["channels"])
    start = ASR_WINDOW
    window = torch.from_numpy(samples[start * hop :])[None]
    last = asr_features(encoder.content_net, window, encoder.mel_config)
    torch.testing.assert_close(features[:, start // 4 + ASR_OVERLAP // 8 :], last[:, ASR_OVERLAP // 8 :])


def test_model_for_another_recognizer_is_refused(with_asr_features, target):
    other = Encoder(DisentanglingVAE(DisentanglingConfig(**TINY, asr_channels=32)))
    with pytest.raises(VcvaeError, match="takes 32 ASR features"):
        other.content(target)


def test_latents_have_their_shapes_and_lengths(released, target):
    speaker = released.speaker(target)
    content = released.content(target)
    assert speaker.dtype == content.dtype == np.float32
    assert np.linalg.norm(speaker) == pytest.approx(1, abs=1e-5)
    assert content.shape == (released.model.config.content_latent, math.ceil(len(target) / 1024))


def test_references_are_trimmed_and_know_their_bandwidth(encoder, target):
    silence = np.zeros(RATE, np.float32)
    (reference,) = encoder.load_references([np.concatenate([silence, target, silence])])
    assert reference.mel.shape[2] < len(target) / 256 + 12
    assert reference.valid_bands.shape == (1, 80)
    (narrow,) = encoder.load_references([target[::4]], sample_rate=RATE // 4)
    assert 0 < narrow.valid_bands.sum() < reference.valid_bands.sum()
    with pytest.raises(VcvaeError, match="no target utterance"):
        encoder.load_references([])


def test_recordings_in_which_nobody_speaks_are_no_references(released, target):
    noise = 1e-3 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    references = released.load_references([noise, target, noise])
    assert [reference.mel.shape for reference in references] == [released.load_references([target])[0].mel.shape]
    assert len(released.load_references([noise, noise])) == 2  # as of a whisper


def test_references_of_long_recordings_come_in_pieces(encoder, monkeypatch):
    monkeypatch.setattr(chunks, "PIECE_FRAMES", 128)
    references = encoder.load_references([speak("aisoeufa", seconds=6.0)])
    assert [reference.mel.shape[2] for reference in references] == [130, 130, 130, 130]


def test_sources_are_cut_and_those_that_cannot_be_used_are_left_out(encoder, target, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "PIECE_FRAMES", 128)
    sf.write(tmp_path / "a.wav", target, RATE)
    sources = encoder.load_sources([tmp_path / "a.wav", Path("absent.wav"), np.zeros(9000, np.float32), target])
    assert [source.mel.shape[2] for source in sources] == [128, 128]
    assert len(encoder.load_sources([target[:9000]] * (MAX_SOURCES + 5))) == MAX_SOURCES


def test_sources_are_the_sentences_of_the_package_where_none_are_given(encoder, sentences):
    given = encoder.load_sources(sorted(sentences.iterdir()))
    default = encoder.load_sources()
    assert len(default) == len(given) == 2
    for source, expected in zip(default, given, strict=True):
        assert torch.equal(source.mel, expected.mel)


@pytest.mark.slow
def test_sources_of_the_package_can_be_used(encoder):
    sources = encoder.load_sources()
    assert len(sources) == len([path for path in SENTENCES.iterdir() if path.suffix in (".ogg", ".flac", ".opus")])
    assert all(2 < source.mel.shape[2] / encoder.mel_config.frame_rate < 8 for source in sources)


def test_mel_is_padded_to_whole_frames(encoder, tmp_path):
    samples = speak("uao", seconds=0.5)[: 40 * 256 + 7]
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    padded = torch.from_numpy(np.pad(samples, (0, 249)))
    expected = MelSpectrogram()(padded[None])[0].numpy()
    np.testing.assert_allclose(encoder.mel(tmp_path / "a.wav"), expected, atol=1e-4)
    np.testing.assert_allclose(encoder.mel(samples), expected, atol=1e-4)


def test_latents_of_long_recordings_are_those_of_their_pieces(encoder, tmp_path, monkeypatch):
    samples = speak("aisoeufa uio eisauo", seconds=9.0)
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    mel, content = encoder.mel(samples), encoder.content(samples)
    monkeypatch.setattr(chunks, "PIECE_FRAMES", 256)
    pieces = list(encoder.mel_pieces(tmp_path / "a.wav"))
    assert max(piece.shape[1] for piece in pieces) < mel.shape[1] / 1.5
    np.testing.assert_allclose(encoder.mel(tmp_path / "a.wav"), mel, atol=1e-4)
    in_pieces = encoder.content(tmp_path / "a.wav")
    assert in_pieces.shape == content.shape
    assert np.corrcoef(in_pieces.ravel(), content.ravel())[0, 1] > 0.8


def test_references_of_a_very_long_target_are_its_first_minutes(encoder, target, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr("vcvae.convert.encoder.MAX_MINUTES", 1 / 60)
    sf.write(tmp_path / "a.wav", np.tile(target, 4), RATE)
    (reference,) = encoder.load_references([tmp_path / "a.wav", Path("not-read.wav")])
    assert reference.mel.shape[2] <= 87
    assert "a.wav: the first" in caplog.text


def test_voice_reports_what_is_read_and_encoded(encoder, target, monkeypatch, tmp_path):
    monkeypatch.setattr(chunks, "PIECE_FRAMES", 64)
    sf.write(tmp_path / "a.wav", np.tile(target, 2), RATE)
    reports = []
    encoder.voice([tmp_path / "a.wav"], progress=lambda *report: reports.append(report))
    seconds = round(2 * len(target) / RATE)
    assert reports[0] == (0, seconds, "reading, seconds")
    pieces = len(encoder.load_references([tmp_path / "a.wav"]))
    assert [report for report in reports if "reading" not in report[2]] == [
        (i, pieces, "encoding the target") for i in range(pieces)
    ]
    assert pieces > 1


def test_load_targets_reports_the_seconds_of_all_files(encoder, target, tmp_path):
    for name in ("a.wav", "b.wav"):
        sf.write(tmp_path / name, np.tile(target, 2), RATE)
    reports = []
    encoder.load_targets([tmp_path / "a.wav", tmp_path / "b.wav"], progress=lambda *report: reports.append(report))
    assert [done for done, _, _ in reports] == sorted(done for done, _, _ in reports)
    assert {total for _, total, _ in reports} == {round(2 * len(target) / RATE), 1800}


def test_voice_says_where_there_is_little_speech_and_refuses_less(encoder, caplog):
    speech = speak("aisoeufaisoeufa", seconds=3.0)
    for seconds in (0.05, 0.25):
        for call in (encoder.speaker, lambda clip: encoder.voice([clip])):
            with pytest.raises(VcvaeError, match=r"0\.\d\d s of speech is too little .* give at least 0\.3 s"):
                call(speech[: int(seconds * RATE)])
    assert not caplog.records
    encoder.voice([speech[:RATE]])
    (record,) = caplog.records
    assert record.getMessage() == "the speaker: 1.0 s of speech is little for a voice; give 10 s or more."
    encoder.voice([speech[:RATE], speech[RATE:]])
    assert len(caplog.records) == 1
