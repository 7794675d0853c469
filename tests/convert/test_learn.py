"""Learning a voice: what it takes, what it leaves as it is, and what a conversion with it needs."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.conftest import EGS
from tests.synthetic import RATE, speak
from vcvae.conversion_losses import ConversionLosses
from vcvae.convert.converter import Converter
from vcvae.convert.finetune import finetune
from vcvae.convert.finetune_sources import FinetuningSources
from vcvae.convert.similarity import speaker_similarity
from vcvae.convert.voice_cache import VoiceCache
from vcvae.errors import VcvaeError
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice, VoiceCard
from vcvae.vocoder import GriffinLim

STEPS = 2


@pytest.fixture(scope="module")
def source():
    return speak("aisoe", f0=110, seconds=1.0)


@pytest.fixture(scope="module")
def target():
    return speak("eoaui", f0=210, tract=1.15, seconds=1.5, seed=1)


def changed(voice):
    """The sum of the changes of each weight."""
    learned = voice.learned
    return {name: learned.of(name).sum().item() for name in (*learned.vectors, *learned.matrices)}


def test_learn_leaves_the_converter_as_it_was(small, source, target):
    weights = {name: value.clone() for name, value in small.model.state_dict().items()}
    before, _ = small.convert(source, small.voice([target]))
    voice = small.learn(target, steps=STEPS)
    learned, _ = small.convert(source, voice)
    after, _ = small.convert(source, small.voice([target]))
    assert all(torch.equal(value, weights[name]) for name, value in small.model.state_dict().items())
    np.testing.assert_array_equal(before, after)
    assert np.abs(learned - before).max() > 1e-4
    assert voice.card.steps == STEPS
    assert voice.card.seconds == pytest.approx(1.5, abs=0.1)


def test_learn_is_finetuning_of_the_decoder(small, target, sentences):
    """What the voice has learned, applied to the decoder, is the fine-tuned decoder."""
    references = small.load_references([target])
    sources = FinetuningSources(small.model, small.load_sources(sorted(sentences.iterdir())))
    tuned = finetune(small.model, references, sources=sources, steps=STEPS)
    decoder = small.model.decoder_for(small.learn([target], steps=STEPS))
    for (name, expected), value in zip(tuned.decoder.named_parameters(), decoder.parameters(), strict=True):
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=0, msg=name)


def test_learn_uses_the_sentences_of_the_package_or_others(small, target, sentences):
    default = small.learn([target], steps=STEPS)
    same = small.learn([target], sources=sorted(sentences.iterdir()), steps=STEPS)
    others = [speak("uao", seconds=1.0), Path("absent.wav"), np.zeros(9000, np.float32)]
    other = small.learn([target], sources=others, steps=STEPS)
    assert changed(default) == changed(same) != changed(other)


def test_learn_without_steps_is_one_pass(small, source, target):
    voice = small.learn(target, steps=0)
    assert voice.learned is None
    expected, _ = small.convert(source, small.voice([target]))
    np.testing.assert_array_equal(small.convert(source, voice)[0], expected)
    np.testing.assert_array_equal(small.convert(source, target, quick=True)[0], expected)


def test_learn_takes_at_most_some_minutes(small, target, monkeypatch, tmp_path):
    monkeypatch.setattr("vcvae.convert.encoder.MAX_MINUTES", 2.2 / 60)
    recordings = [target, target, tmp_path / "never-read.wav"]
    assert small.learn(recordings, steps=0).card.seconds == pytest.approx(2.2, abs=0.05)


def test_learn_takes_at_most_so_many_reference_frames(small, monkeypatch):
    recordings = [speak("aiu", seconds=1.0, seed=i) for i in range(5)]
    whole = small.learn(recordings, steps=0)
    monkeypatch.setattr("vcvae.convert.encoder.MAX_REFERENCE_FRAMES", 50)
    limited = small.learn(recordings, steps=0)
    assert limited.reference.keys.shape[1] == limited.reference.values.shape[1] == 50 < whole.reference.keys.shape[1]
    torch.testing.assert_close(limited.reference.embedding, whole.reference.embedding)
    torch.testing.assert_close(limited.f0_statistics.mean, whole.f0_statistics.mean, equal_nan=True)


def test_learn_refuses_no_target(small):
    with pytest.raises(VcvaeError, match="no target utterance"):
        small.learn([])


class MeanLosses(ConversionLosses):
    """Its "samples" are the mel, whose mean is the "speaker"."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.mel_config, self.speaker_net = DisentanglingConfig().mel, None

    def synthesize(self, mel, f0):
        return mel

    def speaker_embedding(self, mels):
        return torch.stack([mel.mean() for mel in mels]).mean()

    def speaker_loss(self, converted, target):
        return converted.mean() - target

    def asr_features(self, samples):
        return samples

    def content_loss(self, converted, source):
        return (converted - source).square().mean()


def test_refined_voice_has_learned_more_and_says_so(model, source, target, tmp_path):
    converter = Converter(model, GriffinLim(iterations=2), MeanLosses())
    voice = converter.learn(target, steps=STEPS, card=VoiceCard(name="Ann"))
    voice.save(tmp_path / "ann.voice")
    kept = Voice.load(tmp_path / "ann.voice")
    sf.write(tmp_path / "source.wav", source, RATE, subtype="FLOAT")
    refined = converter.refine(kept, tmp_path / "source.wav", steps=3)
    assert (refined.card.name, refined.card.steps, refined.path) == ("Ann", STEPS + 3, None)
    assert changed(refined) != changed(kept)
    assert changed(refined) == changed(converter.refine(kept, [source], sample_rate=RATE, steps=3))
    refined.save(tmp_path / "refined.voice")
    before, after = (converter.convert(source, v, sample_rate=RATE)[0] for v in (kept, refined))
    assert np.abs(before - after).max() > 1e-5


@pytest.mark.parametrize("sources", [[], [np.zeros(100, np.float32)], [Path("absent.wav")]])
def test_voice_without_a_source_that_can_be_used_is_not_refined(model, target, sources):
    converter = Converter(model, GriffinLim(iterations=2), MeanLosses())
    voice = converter.voice([target])
    assert converter.refine(voice, sources, steps=3) is voice


def test_refine_refuses_what_it_cannot_refine(small, source, target):
    voice = small.voice([target])
    with pytest.raises(VcvaeError, match="cannot be refined"):
        small.refine(voice, source)
    other = Converter(DisentanglingVAE(DisentanglingConfig(fast_channels=16)).eval(), GriffinLim(iterations=2))
    with pytest.raises(VcvaeError, match="made for another model"):
        other.refine(voice, source)


def test_convert_with_a_kept_voice_needs_no_recording_and_no_losses(model, small, source, target, tmp_path):
    voice = small.learn(target, steps=STEPS, card=VoiceCard(name="Ann"))
    voice.save(tmp_path / "ann.voice")
    loads = []
    other = Converter(model, GriffinLim(iterations=2), lambda: loads.append("losses"))
    kept = Voice.load(tmp_path / "ann.voice")
    samples, _ = other.convert(source, kept)
    expected, _ = small.convert(source, voice)
    assert np.abs(samples - expected).max() < 0.02 * np.abs(expected).max()
    np.testing.assert_array_equal(other.convert(source, str(tmp_path / "ann.voice"))[0], samples)
    sf.write(tmp_path / "source.wav", source, RATE, subtype="FLOAT")
    other.convert_file(tmp_path / "source.wav", kept, tmp_path / "out.wav")
    np.testing.assert_allclose(sf.read(tmp_path / "out.wav")[0], samples, atol=1e-3)
    assert loads == []


def test_convert_takes_several_voices_at_once(small, source, target):
    """In turns, each gives what it gives alone."""
    voices = [small.learn(target, steps=STEPS), small.learn(source, steps=STEPS), small.voice([target])]
    alone = [small.convert(source, voice)[0] for voice in voices]
    for number in (1, 0, 2, 0, 1):
        np.testing.assert_array_equal(small.convert(source, voices[number])[0], alone[number])
    shared = [p for p in small.model.decoder_for(voices[0]).parameters()]
    own = {p.data_ptr() for p in small.model.decoder.parameters()}
    assert not all(p.data_ptr() in own for p in shared)
    assert small.model.decoder_for(voices[0]) is small.model.decoder_for(voices[0])


def test_learned_voice_converts_a_batch_of_mels(model, small, source, target):
    voice = small.learn(target, steps=STEPS)
    mels = torch.cat([small._mel(samples) for samples in (source, 0.5 * np.roll(source, 4000))])
    with torch.no_grad():
        together = model.convert(mels, voice)
        for mel, converted in zip(mels, together, strict=True):
            torch.testing.assert_close(model.convert(mel[None], voice)[0], converted, atol=1e-3, rtol=1e-3)
        assert (together - model.convert(mels, small.voice([target]))).abs().max() > 1e-3


def test_convert_refuses_a_voice_for_another_model(small, source, target, tmp_path):
    torch.manual_seed(1)
    other = Converter(DisentanglingVAE(small.model.config).eval(), GriffinLim(iterations=2))
    other.voice([target]).save(tmp_path / "ann.voice")
    with pytest.raises(
        VcvaeError, match=r"ann\.voice: made for another model .*vcvae voice RECORDINGS -o .*ann\.voice"
    ):
        small.convert(source, Voice.load(tmp_path / "ann.voice"))
    wider = Converter(DisentanglingVAE(DisentanglingConfig(fast_channels=16)).eval(), GriffinLim(iterations=2))
    with pytest.raises(VcvaeError, match="the voice: made for another model"):
        wider.convert_file("source.wav", small.voice([target]), tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()


def test_learn_with_a_cache_learns_once(small, source, target, tmp_path):
    cache = VoiceCache(tmp_path / "voices")
    steps = []

    def learn(targets, **options):
        steps.clear()
        return small.learn(targets, cache=cache, progress=lambda *_: steps.append(1), **{"steps": STEPS} | options)

    first = learn(target)
    assert (len(steps), len(cache.files())) == (2, 1)
    assert first.path == cache.files()[0]
    again = learn([target.copy()])
    assert (len(steps), again.path) == (0, first.path)
    np.testing.assert_array_equal(small.convert(source, first)[0], small.convert(source, again)[0])
    for options in ({"steps": 1}, {"seed": 1}, {"sources": [source]}):
        assert learn(target, **options).path != first.path
        assert steps
    assert learn(0.5 * target).path != first.path
    with torch.no_grad():
        small.model.decoder.head.bias += 1
    del small.fingerprint
    assert learn(target).path != first.path
    learn(target, steps=0)
    assert len(cache.files()) == 6


def test_learn_finds_a_voice_by_its_samples(small, target, tmp_path):
    cache = VoiceCache(tmp_path / "voices")
    for name in ("a.wav", "b.flac"):
        sf.write(tmp_path / name, (2**15 * target).astype(np.int16), RATE)
    first = small.learn(tmp_path / "a.wav", steps=STEPS, cache=cache)
    assert small.learn([tmp_path / "b.flac"], steps=STEPS, cache=cache).path == first.path


@pytest.mark.slow
def test_learn_makes_conversions_more_similar_to_the_target(released):
    """By default, in few steps: with the networks and the sentences of the package, on other sentences than those."""
    reported = []
    target = EGS / "convert" / "target.flac"
    voice = released.learn(target, steps=10, progress=lambda *report: reported.append(report))
    assert [(done, total) for done, total, _ in reported] == [(i, 10) for i in range(1, 11)]
    assert "speaker loss 0." in reported[-1][2]
    before, after = speaker_similarity(released, [released.voice([target]), voice], [target])
    assert before + 0.02 < after < 1
