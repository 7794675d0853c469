import itertools

import pytest
import torch

from tests.synthetic import speak
from vcvae.convert.encoder import Encoder
from vcvae.convert.finetune_sources import SEGMENT_FRAMES, FinetuningSources, segment_starts
from vcvae.models.conversion.asr_features import at_content_frames
from vcvae.models.conversion.vae import DisentanglingVAE


class MelLosses(torch.nn.Module):
    """Its "samples" and its "features" are the mel and noise."""

    def synthesize(self, mel, f0):
        return mel + torch.randn_like(mel)

    def asr_features(self, samples):
        return samples


@pytest.fixture
def utterances(model):
    return Encoder(model).load_references([speak("aiueo", seconds=seconds) for seconds in (1.0, 5.0)])


@pytest.mark.parametrize("frames", [1, 167, 168, 169, 336, 337, 1000])
def test_segments_cover_an_utterance(frames):
    starts = segment_starts(frames)
    assert starts[0] == 0
    assert all(start % 4 == 0 for start in starts)
    assert all(0 < b - a <= SEGMENT_FRAMES for a, b in itertools.pairwise(starts))
    assert starts[-1] <= max(0, frames - SEGMENT_FRAMES) < starts[-1] + 4
    assert len(starts) <= -(-frames // SEGMENT_FRAMES)


def test_sources_are_the_segments_of_all_utterances(model, utterances):
    sources = FinetuningSources(model, utterances, MelLosses())
    segments = [sources.segment(i) for i in range(sources.segments)]
    expected = [len(segment_starts(utterance.mel.shape[2])) for utterance in utterances]
    assert len(segments) == sum(expected)
    second = segments[expected[0]]
    torch.testing.assert_close(second.mel, utterances[1].mel[:, :, :SEGMENT_FRAMES])
    with torch.no_grad():
        torch.testing.assert_close(second.content, model.content(second.mel).mean)
        torch.testing.assert_close(second.f0.log_f0, model.f0(second.mel).log_f0)
        torch.testing.assert_close(second.modulation.values, model.modulation(second.mel).values)


def test_content_of_a_segment_has_the_features_of_its_copy_where_the_model_takes_them(model):
    class Losses(MelLosses):
        mel_config = model.config.mel

        def asr_features(self, samples):
            return samples[:, :16]

    torch.manual_seed(0)
    taking = DisentanglingVAE(model.config.model_copy(update={"asr_channels": 16})).eval()
    torch.nn.init.normal_(taking.content.asr.to_mean.weight)
    utterances = Encoder(taking).load_references([speak("aiueo", seconds=1.0)])
    segment = FinetuningSources(taking, utterances, Losses()).segment(0)
    features = at_content_frames(segment.asr_features, segment.mel.shape[2], model.config.mel)
    with torch.no_grad():
        torch.testing.assert_close(segment.content, taking.content(segment.mel, asr_features=features).mean)
        assert not torch.allclose(segment.content, taking.content(segment.mel).mean, atol=0.1)


def test_sources_encode_a_segment_once_and_draw_no_random_numbers(model, utterances):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    sources = FinetuningSources(model, utterances, MelLosses())
    first = sources.segment(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert sources.segment(1) is first
    torch.manual_seed(2)
    again = FinetuningSources(model, utterances, MelLosses()).segment(1)
    assert torch.equal(again.asr_features, first.asr_features)


def test_sources_without_losses_have_utterances_and_voices_alone(model, utterances):
    sources = FinetuningSources(model, utterances)
    assert sources.segments == 0
    with torch.no_grad():
        expected = model.voice(utterances[0].mel, valid_bands=utterances[0].valid_bands)
    torch.testing.assert_close(sources.voices[0].reference.embedding, expected.reference.embedding)
