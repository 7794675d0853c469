import copy
import re

import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae.augment.mel import Perturbation, PerturbationConfig
from vcvae.convert.converter import Converter
from vcvae.convert.encoder import Encoder, ReferenceMel, padded_mel
from vcvae.convert.finetune import (
    LEARNING_RATE,
    MAX_PIECES,
    TARGET_PIECE_FRAMES,
    WARP,
    _Conversion,
    _encode_speaker,
    _vtlp,
    conversion_losses,
    draw_pieces,
    finetune,
    finetuning_settings,
    reconstruction_loss,
    refine,
)
from vcvae.convert.finetune_sources import SEGMENT_FRAMES, FinetuningSources
from vcvae.features.mel import MelConfig
from vcvae.models.conversion.asr_features import at_content_frames
from vcvae.vocoder import GriffinLim

EVERY_BAND = torch.ones(1, 80)
HEAD = "decoder.head.weight"


class StubLosses(torch.nn.Module):
    """Its "samples" are the mel, its "speaker" is how much of it lies in high bands, its "content" is the mel."""

    def synthesize(self, mel, f0):
        assert f0.log_f0.shape == (1, -(-mel.shape[2] // 2))
        return mel

    def speaker_embedding(self, mels):
        return torch.stack([mel[:, 40:].mean() - mel[:, :40].mean() for mel in mels]).mean()

    def speaker_loss(self, converted, target):
        return (self.speaker_embedding([converted]) - target).square()

    def asr_features(self, samples):
        return samples

    def content_loss(self, converted, source):
        return (converted - source).abs().mean()


def utterance(model, words="aiueoaiueo", **options):
    (reference,) = Encoder(model).load_references([speak(words, **options)])
    return reference


@pytest.fixture
def reference(model):
    return utterance(model, seconds=2.0)


@pytest.fixture(scope="module")
def real(released, clips):
    """The mels of a source and of a target, three seconds each."""
    return {name: released.load_references([clips / f"{name}.wav"])[0] for name in ("source", "target")}


def reconstruction_l1(model, reference):
    """Of an utterance in its own voice."""
    with torch.no_grad():
        return (model.convert(reference.mel, model.voice(reference.mel)) - reference.mel).abs().mean()


def test_finetune_learns_a_voice_and_leaves_the_model_as_it_was(released, real):
    model = released.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learned = finetune(model, [real["target"]], steps=8)
    assert reconstruction_l1(learned, real["target"]) < 0.97 * reconstruction_l1(model, real["target"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(value, learned.state_dict()[name]) or name.startswith("decoder.")
    assert not any(p.requires_grad for p in learned.parameters())


def test_finetune_depends_on_the_seed_alone(model, reference):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = finetune(model, [reference], steps=3).state_dict()[HEAD]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = finetune(model, [reference], steps=3).state_dict()[HEAD]
    other = finetune(model, [reference], steps=3, seed=5).state_dict()[HEAD]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_finetune_without_steps_is_a_copy(model, reference):
    learned = finetune(model, [reference], steps=0)
    assert learned is not model
    for name, value in model.state_dict().items():
        assert torch.equal(value, learned.state_dict()[name])


def test_finetune_reports_every_step(model, reference):
    reports = []
    finetune(model, [reference], steps=2, progress=lambda *report: reports.append(report))
    assert [report[:2] for report in reports] == [(1, 2), (2, 2)]
    assert reports[0][2].startswith("reconstruction loss ")
    reports.clear()
    sources = FinetuningSources(model, [reference], StubLosses())
    finetune(model, [reference], sources=sources, steps=3, progress=lambda *report: reports.append(report))
    assert [report[:2] for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert all(re.fullmatch(r"speaker loss [\d.]+, content loss [\d.]+", report[2]) for report in reports)


def test_finetune_does_not_learn_bands_that_are_not_valid(model, reference):
    bands = model.config.encoder_bands  # those above are no input of the encoders: they could only be learned
    valid_bands = EVERY_BAND.clone()
    valid_bands[:, bands:] = 0
    empty = reference.mel.clone()
    empty[:, bands:] = -11.5
    anything = empty + torch.where(valid_bands > 0, 0.0, 3.0)[..., None]
    before = model.state_dict()["decoder.head.bias"].reshape(2, 80)
    biases = []
    for mel in (empty, anything):
        learned = finetune(model, [ReferenceMel(mel, valid_bands)], steps=3)
        biases.append(learned.state_dict()["decoder.head.bias"].reshape(2, 80))
    assert (biases[0] - before)[:, :bands].abs().mean() > 0.1 * LEARNING_RATE
    torch.testing.assert_close(biases[0], biases[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(biases[0][:, bands:], before[:, bands:])


def test_finetune_learns_nothing_without_valid_bands(model, reference):
    learned = finetune(model, [ReferenceMel(reference.mel, torch.zeros(1, 80))], steps=2)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(learned.state_dict()[name], value)


@pytest.mark.parametrize("seconds", [0.2, 0.5, 4.0])
def test_finetune_takes_utterances_of_any_length(model, seconds):
    converter = Converter(model, GriffinLim(iterations=2))
    targets = [speak("aiu", seconds=seconds, seed=i) for i in range(2)]
    voice = converter.learn(targets, steps=2)
    samples, _ = converter.convert(speak("oea", seconds=0.5), voice)
    assert np.isfinite(samples).all()
    assert voice.reference.keys.shape[1] == voice.reference.mask.sum()


@pytest.mark.slow
def test_finetune_with_replay_reconstructs_the_source_better(released, real):
    alone = finetune(released.model, [real["target"]], steps=12)
    replayed = finetune(
        released.model, [real["target"]], sources=FinetuningSources(released.model, [real["source"]]), steps=12
    )
    assert reconstruction_l1(replayed, real["source"]) < reconstruction_l1(alone, real["source"])
    assert reconstruction_l1(replayed, real["target"]) < reconstruction_l1(released.model, real["target"])


def test_reconstruction_loss_takes_content_from_the_sources_voices(model, reference):
    source = utterance(model, "oeaoea", f0=220, tract=1.2, seconds=1.0)
    with torch.no_grad():
        voice = model.voice(source.mel)
    (own,) = _encode_speaker(model, [reference]).pieces
    speaker = _encode_speaker(model, [reference], bt_voices=[voice])
    (back_translated,) = speaker.pieces
    assert torch.equal(own.content_mel, own.mel)
    torch.testing.assert_close(back_translated.mel, own.mel)
    with torch.no_grad():
        torch.testing.assert_close(back_translated.content_mel, model.convert(own.mel, voice))
    inputs = []
    model.content.register_forward_pre_hook(lambda _module, arguments: inputs.append(arguments[0]))
    reconstruction_loss(model, model.decoder, speaker, lambda mel: mel)
    torch.testing.assert_close(inputs[0], back_translated.content_mel)


@pytest.mark.parametrize("seed", range(8))
def test_vtlp_knows_which_bands_stay_valid(seed):
    torch.manual_seed(seed)
    centres = Perturbation(PerturbationConfig(), MelConfig()).centres
    mel = centres[None, :, None].expand(1, 80, 4)  # the value of each band is its frequency
    valid_bands = (centres < 5500).float()[None]
    warped = _vtlp(ReferenceMel(mel, valid_bands), centres)
    valid = warped.valid_bands[0] == 1
    factor = warped.mel[0, 20, 0] / centres[20]
    assert abs(factor.log()) <= np.log(1 + WARP) + 1e-6
    # The lowest band has no neighbour below.
    torch.testing.assert_close(warped.mel[0, valid, 0][1:], (centres * factor)[valid][1:])
    assert warped.mel[0, valid].max() < 5500
    assert valid.sum() >= (centres * max(1, factor) < 5000).sum()


def test_pauses_are_not_learned(released, real):
    target = real["target"]
    speech = target.mel[:, :, :TARGET_PIECE_FRAMES]
    noise = np.random.default_rng(0).standard_normal(TARGET_PIECE_FRAMES * released.mel_config.hop)
    pause = padded_mel(released.spectrogram, (1e-3 * noise).astype(np.float32))
    tuned = [
        finetune(released.model, [ReferenceMel(mel, target.valid_bands)], steps=1).decoder.state_dict()
        for mel in (speech, torch.cat([speech, pause], dim=2), torch.cat([speech, speech.flip(2)], dim=2))
    ]
    assert all(torch.equal(tuned[0][name], tuned[1][name]) for name in tuned[0])
    assert not all(torch.equal(tuned[0][name], tuned[2][name]) for name in tuned[0])


def test_pieces_are_the_utterances_or_a_random_part_of_many(reference):
    frames = reference.mel.shape[2]
    long = ReferenceMel(reference.mel.repeat(1, 1, 20)[:, :, : 3 * TARGET_PIECE_FRAMES + 1], reference.valid_bands)
    pieces = draw_pieces([reference, long])
    assert all(piece.mel.shape[2] <= TARGET_PIECE_FRAMES for piece in pieces)
    joined = torch.cat([piece.mel for piece in pieces], dim=2)
    assert torch.equal(joined, torch.cat([reference.mel, long.mel], dim=2))
    assert len(draw_pieces([reference] * (MAX_PIECES + 3))) == MAX_PIECES
    assert frames < TARGET_PIECE_FRAMES


def test_conversion_losses_are_of_a_conversion_at_its_sources_level(model, reference):
    """The content loss is 0 for the source itself at any level; the speaker loss is of what was converted."""
    mel = reference.mel[:, :, :SEGMENT_FRAMES]
    losses = StubLosses()
    with torch.no_grad():
        sources = FinetuningSources(model, [ReferenceMel(mel, EVERY_BAND)], losses)
        embedding = losses.speaker_embedding([reference.mel])
        conversion = _Conversion(sources, model.voice(reference.mel), embedding)
        right = conversion_losses(lambda *_, **__: mel + 3, conversion)
        wrong = conversion_losses(lambda *_, **__: mel.flip(2), conversion)
    expected_speaker = float(losses.speaker_loss(mel, losses.speaker_embedding([reference.mel])))
    expected_content = float((mel.flip(2) - mel).abs().mean())
    assert [float(x) for x in right] == pytest.approx([expected_speaker, 0.0], abs=1e-5)
    assert [float(x) for x in wrong] == pytest.approx([expected_speaker, expected_content], abs=1e-4)
    assert expected_content > 0.01


def test_conversion_draws_each_segment_once_before_any_comes_again(model, reference):
    sources = FinetuningSources(model, [reference] * 3, StubLosses())
    with torch.no_grad():
        conversion = _Conversion(sources, model.voice(reference.mel), torch.zeros(()))
        drawn = [conversion.next_segment() for _ in range(2 * sources.segments)]
    for half in (drawn[: sources.segments], drawn[sources.segments :]):
        assert {id(segment) for segment in half} == {id(sources.segment(i)) for i in range(sources.segments)}


def test_finetune_uses_no_losses_without_sources(model, reference):
    with_losses = finetune(
        model, [reference], sources=FinetuningSources(model, [], StubLosses()), steps=1
    ).state_dict()[HEAD]
    without = finetune(model, [reference], steps=1).state_dict()[HEAD]
    assert torch.equal(with_losses, without)


def asr_features(losses, model, mel):
    """The features of the mel's copy synthesis, of the recognizer's frames and as the content encoder takes them."""
    features = losses.asr_features(losses.synthesize(mel, model.f0(mel)))
    return features, at_content_frames(features, mel.shape[2], model.config.mel)


@pytest.mark.slow
def test_finetune_with_losses_converts_nearer_to_the_target_and_keeps_the_content(released, real):
    losses, model = released.losses, released.model
    source, target = real["source"], real["target"]

    @torch.no_grad()
    def score(learned):
        voice = learned.voice(target.mel)
        target_f0 = learned.target_f0(source.mel, voice)
        features, taken = asr_features(losses, model, source.mel)
        converted = learned.convert(source.mel, voice, target_f0=target_f0, asr_features=taken)
        torch.manual_seed(0)
        converted_samples = losses.synthesize(converted, target_f0)
        speaker_loss = losses.speaker_loss(converted_samples, losses.speaker_embedding([target.mel]))
        return speaker_loss, losses.content_loss(converted_samples, features)

    speaker_with, content_with = score(
        finetune(model, [target], sources=FinetuningSources(model, [source], losses), steps=8)
    )
    speaker_without, content_without = score(
        finetune(model, [target], sources=FinetuningSources(model, [source]), steps=8)
    )
    assert speaker_with < speaker_without - 0.02
    assert content_with < content_without


def test_refine_depends_on_its_arguments_alone_and_leaves_the_model_as_it_was(model, reference):
    """Also with a voice that was made in inference mode, of which no gradients can be taken."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sources = FinetuningSources(model, [reference, utterance(model, "eao", seconds=1.5)], StubLosses())
    with torch.no_grad():
        voice = model.voice(reference.mel)
    with torch.inference_mode():
        same_voice = model.voice(reference.mel)

    def head(voice, **options):
        refined = refine(model, voice, sources, sentences=[reference.mel], **options)
        return refined.get_parameter("head.weight")

    first = head(voice, steps=2)
    assert torch.equal(first, head(same_voice, steps=2))
    assert not all(torch.equal(first, head(voice, steps=2, seed=seed)) for seed in (1, 2, 3))
    assert (first - before[HEAD]).abs().max() > 1e-6
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_refine_keeps_more_of_a_sources_content_and_the_voice(released, real):
    """Of a drawn voice, of which there are no recordings."""
    losses, model, source = released.losses, released.model, real["source"]
    voice = released.draw(seed=2)
    sentences = released.sample_mels

    @torch.no_grad()
    def score(decoder):
        converted = copy.deepcopy(model)  # a shallow copy shares its parts
        converted.decoder = decoder
        target_f0 = model.target_f0(source.mel, voice)
        samples = losses.synthesize(converted.convert(source.mel, voice, target_f0=target_f0), target_f0)
        original = losses.synthesize(source.mel, model.f0(source.mel))
        embedding = losses.speaker_embedding([model.convert(mel, voice) for mel in sentences])
        torch.manual_seed(0)
        return losses.speaker_loss(samples, embedding), losses.content_loss(samples, losses.asr_features(original))

    sources = FinetuningSources(model, [source], losses)
    speaker_before, content_before = score(model.decoder)
    speaker_after, content_after = score(refine(model, voice, sources, sentences=sentences, steps=8))
    assert content_after < 0.95 * content_before
    assert speaker_after < speaker_before


@pytest.mark.slow
def test_refine_moves_away_from_the_sources_voice_where_that_is_asked_for(released, real):
    losses, model, source = released.losses, released.model, real["source"]
    voice = released.draw(seed=2)

    @torch.no_grad()
    def similarity_to_the_source(source_weight):
        torch.manual_seed(0)  # noise of the copy synthesis
        converted = copy.deepcopy(model)  # a shallow copy shares its parts
        sources = FinetuningSources(model, [source], losses)
        converted.decoder = refine(
            model, voice, sources, sentences=released.sample_mels, steps=6, source_weight=source_weight
        )
        _, taken = asr_features(losses, model, source.mel)
        mels = [converted.convert(source.mel, voice, asr_features=taken), source.mel]
        return float(losses.speaker_embedding(mels[:1]) @ losses.speaker_embedding(mels[1:]))

    assert similarity_to_the_source(1.0) < similarity_to_the_source(0.0) - 0.02


@pytest.mark.parametrize("place", ["finetune.WARP", "finetune_sources.SEGMENT_FRAMES"])
def test_finetuning_settings_change_with_each_constant(monkeypatch, place):
    before = finetuning_settings()
    monkeypatch.setattr(f"vcvae.convert.{place}", 7)
    changed = {name for name, value in finetuning_settings().items() if before[name] != value}
    assert changed == {place.partition(".")[2]}
