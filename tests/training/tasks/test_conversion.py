import pytest
import torch

from tests.corpus import NO_FILES, TINY, speech_batch
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion.voice import Voice
from vcvae.models.distributions import Gaussian
from vcvae.training.tasks.conversion import ConversionConfig, ConversionTask, speaker_figures

PARTS = ("content_fast", "content_slow", "speaker", "decoder_slow", "decoder_fast")


@pytest.fixture
def batch():
    """Three speakers, four segments each."""
    bandwidth = [[8000.0] * 4, [5500.0, 8000.0] * 2, [4000.0] * 4]
    return speech_batch(bandwidth, seconds=0.75, f0_step=50) | {"speaker": torch.tensor([4, 7, 9])}


def make(**changes):
    torch.manual_seed(0)
    changes = {"voice_augmentation": {"probability": 0}} | changes
    return ConversionTask(ConversionConfig(**NO_FILES, model=TINY, **changes), speakers=10)


def test_forward_gives_each_loss_term_gradients_to_its_own_parts(batch):
    parts = {
        "reconstruction": {"content", "speaker", "decoder"},
        "kl": {"content"},
        "contrastive": {"speaker"},
        "aam_softmax": {"speaker", "prototypes"},
        "f0": {"f0"},
        "adversarial": {"content", "speaker", "decoder"},
        "feature_matching": {"content", "speaker", "decoder"},
    }
    for term, expected in parts.items():
        weights = {name: float(name == term) for name in parts}
        weights["adversarial"] += 1e-9 * (term == "feature_matching")  # neither is computed where this is 0
        task = make(weights=weights, conversion_share=0.5, conversions_from=0, kl_warmup=0)
        totals, terms = task(batch, 1)
        total = totals["model"]
        assert total.item() == pytest.approx(terms[term].item())
        total.backward(inputs=task.parameter_groups()["model"])
        moved = {
            n.removeprefix("model.").split(".")[0]
            for n, p in task.named_parameters()
            if p.grad is not None and p.grad.abs().sum() > 0
        }
        assert moved == expected, term


def spy(task):
    """Lists to which each call appends: the reference of each segment, and the inputs of the decoder."""
    references, decoder_inputs = [], []
    make_reference = task.model.reference

    def recording(*arguments, **options):
        references.append(make_reference(*arguments, **options))
        return references[-1]

    task.model.reference = recording
    task.model.decoder.register_forward_pre_hook(lambda _module, inputs: decoder_inputs.append(inputs))
    return references, decoder_inputs


def test_forward_reconstructs_a_segment_with_the_reference_of_the_others(batch):
    task = make()
    references, decoder_inputs = spy(task)
    task(batch, 0)
    (own,) = references
    given = decoder_inputs[0][1]
    for i in range(12):
        others = [(i + 3 * k) % 12 for k in (1, 2, 3)]
        mean = own.embedding[others].mean(0)
        torch.testing.assert_close(given.embedding[i], mean / mean.norm())
        frames = {tuple(frame.tolist()) for j in others for frame in own.keys[j]}
        assert {tuple(frame.tolist()) for frame in given.keys[i]} == frames
        assert given.values.shape[1] == given.mask.shape[1] == 3 * own.values.shape[1]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_forward_converts_to_the_previous_speaker_and_its_f0_statistics(batch, share):
    task = make(conversions_from=0, back_translation=0, conversion_share=share)
    _, decoder_inputs = spy(task)
    task(batch, 0)
    (_, reference, f0), (_, target_reference, target_f0) = decoder_inputs
    assert len(target_reference.embedding) == max(1, round(share * 12))
    f0_statistics = f0.statistics()
    mean = f0_statistics.mean.reshape(4, 3).nanmean(0)
    std = f0_statistics.std.reshape(4, 3).nanmean(0)
    for i in range(len(target_reference.embedding)):
        source, target = i % 3, (i - 1) % 3
        torch.testing.assert_close(target_reference.embedding[i], reference.embedding[3 * (i // 3) + target])
        source_statistics = F0Statistics(mean[[source]], std[[source]])
        target_statistics = F0Statistics(mean[[target]], std[[target]])
        expected = f0[[i]].transfer(source_statistics, target_statistics)
        torch.testing.assert_close(target_f0.log_f0[[i]], expected.log_f0)


def test_back_translation_converts_the_content_input_to_the_previous_speaker(batch):
    task = make(back_translation=0.5, conversions_from=3, content_input={}, speaker_input={})
    content_inputs = []
    task.model.content.register_forward_pre_hook(lambda _module, inputs: content_inputs.append(inputs[0]))
    task(batch, 2)
    task(batch, 3)
    plain, back_translated = content_inputs
    valid_bands = task.segment_batch.prepare(batch)[2]
    torch.testing.assert_close(back_translated[:6], plain[:6])
    for i in range(6, 12):
        with torch.no_grad():
            target = Voice.join(
                task.released.voice(plain[j : j + 1], valid_bands=valid_bands[j : j + 1])
                for j in range(12)
                if j % 3 == (i - 1) % 3 and j // 3 != i // 3
            )
            expected = task.released.decoder(
                task.released.content(plain[i : i + 1]).mean,
                target.average().reference,
                task.segment_batch.to_previous_statistics(task.released.f0(plain))[i : i + 1],
                frames=64,
            )
        torch.testing.assert_close(back_translated[i : i + 1], expected, atol=1e-3, rtol=1e-3)


def test_parallel_speech_is_reconstructed_from_the_other_speakers_content(batch):
    task = make(back_translation=0, content_input={}, speaker_input={})
    content_inputs, reference_mels = [], []
    task.model.content.register_forward_pre_hook(lambda _module, inputs: content_inputs.append(inputs[0]))
    batch["parallel"] = batch["samples"].roll(1, 0)
    batch["is_parallel"] = torch.tensor([[True] * 4, [False] * 4, [True, False] * 2])
    make_reference = task.model.reference

    def recording(mel, *arguments, **options):
        reference_mels.append(mel)
        return make_reference(mel, *arguments, **options)

    task.model.reference = recording
    task(batch, 0)
    own = task.segment_batch.prepare(batch)[1]
    torch.testing.assert_close(reference_mels[0], own)  # the reference is the speaker's own
    for i in range(12):
        speaker, segment = i % 3, i // 3
        source = (speaker - 1) % 3 if batch["is_parallel"][speaker, segment] else speaker
        torch.testing.assert_close(content_inputs[0][i], own[3 * segment + source])


def test_parallel_loss_is_the_content_mse_of_parallel_segments(batch):
    weights = dict.fromkeys(("reconstruction", "kl", "contrastive", "aam_softmax", "f0", "adversarial"), 0.0)
    task = make(weights=weights | {"parallel": 1.0}, content_input={}, back_translation=0)
    batch["parallel"] = batch["samples"].clone()
    batch["is_parallel"] = torch.tensor([[True] * 4, [False] * 4, [True] * 4])
    assert task(batch, 0)[0]["model"].item() == pytest.approx(0.0, abs=1e-6)  # the same recordings
    batch["parallel"][2] = batch["samples"][0]
    totals, terms = task(batch, 0)
    own = task.model.content(task.segment_batch.prepare(batch)[1]).mean.unflatten(0, (4, 3))
    expected = (own[:, 2] - own[:, 0]).square().mean() / 2  # one of the two parallel speakers has none
    assert totals["model"].item() == pytest.approx(terms["parallel"].item()) == pytest.approx(expected.item(), rel=1e-4)
    totals["model"].backward(inputs=task.parameter_groups()["model"])
    moved = {n.split(".")[1] for n, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {"content"}
    batch["is_parallel"][:] = False
    assert task(batch, 0)[1]["parallel"].item() == 0.0


def test_band_dropout_masks_upper_bands_of_whole_speakers(batch):
    valid_bands = torch.ones(12, 80)
    for share, expected in ((0.0, 80), (1.0, 68)):
        dropped = make(band_dropout=share)._band_dropout(valid_bands)
        assert (dropped.sum(dim=1) == expected).all()
    torch.manual_seed(0)
    counts = make(band_dropout=0.5)._band_dropout(valid_bands).sum(dim=1).reshape(4, 3)
    assert (counts == counts[0]).all()  # in all segments of a speaker or in none


def test_init_from_copies_the_weights(tmp_path):
    first = make()
    first.released.save_pretrained(tmp_path / "converter")
    second = make(init_from=str(tmp_path / "converter"), seed=1)
    for name, value in first.released.state_dict().items():
        torch.testing.assert_close(second.released.state_dict()[name], value, atol=1e-3, rtol=1e-3)  # float16
    with pytest.raises(VcvaeError, match=r"init_from: .* has other sizes"):
        ConversionTask(
            ConversionConfig(**NO_FILES, model=TINY | {"slow_channels": 24}, init_from=str(tmp_path / "converter")), 2
        )


def test_init_from_a_shallower_model_starts_with_its_function(tmp_path, batch):
    shallow = make(segments=4)
    shallow.released.save_pretrained(tmp_path / "converter")
    more = {f"{part}_blocks": getattr(shallow.config.model, f"{part}_blocks") + 1 for part in PARTS}
    sizes = TINY | more
    torch.manual_seed(1)
    deep = ConversionTask(ConversionConfig(**NO_FILES, model=sizes, init_from=str(tmp_path / "converter")), speakers=10)
    assert sum(p.numel() for p in deep.model.parameters()) > sum(p.numel() for p in shallow.model.parameters())
    mel = shallow.segment_batch.prepare(batch)[1][:3]
    with torch.no_grad():
        expected = shallow.released.convert(mel, shallow.released.voice(mel.roll(1, 0)))
        converted = deep.released.convert(mel, deep.released.voice(mel.roll(1, 0)))
    torch.testing.assert_close(converted, expected, atol=1e-3, rtol=1e-3)
    deep.released.save_pretrained(tmp_path / "deeper")
    # A deeper model cannot initialize a shallower one.
    with pytest.raises(VcvaeError, match=r"init_from: .* or more blocks"):
        ConversionTask(ConversionConfig(**NO_FILES, model=TINY, init_from=str(tmp_path / "deeper")), 2)


def test_aam_softmax_leaves_out_augmented_voices(batch):
    task = make(voice_augmentation={"probability": 1.0}, weights={"aam_softmax": 1.0})
    assert task(batch, 0)[1]["aam_softmax"].item() == 0.0
    task = make(weights={"aam_softmax": 1.0})
    assert task(batch, 0)[1]["aam_softmax"].item() > 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_forward_runs_on_a_gpu_in_bfloat16(batch):
    task = make(voice_augmentation={"probability": 0.5}, conversions_from=0).cuda()
    on_gpu = {name: value.cuda() for name, value in batch.items()}
    with torch.autocast("cuda", torch.bfloat16):
        totals, terms = task(on_gpu, 0)
    assert all(torch.isfinite(term) for term in terms.values())
    totals["model"].backward(inputs=task.parameter_groups()["model"])


def test_kl_weight_warms_up(batch):
    task = make(
        weights={"reconstruction": 0, "contrastive": 0, "aam_softmax": 0, "f0": 0, "kl": 1.0},
        kl_warmup=100,
        conversions_from=10_000,
    )
    for step, share in ((0, 0.0), (50, 0.5), (1000, 1.0)):
        torch.manual_seed(1)
        totals, terms = task(batch, step)
        assert totals["model"].item() == pytest.approx(share * terms["kl"].item())


def test_validate_returns_its_figures_and_mels(batch):
    result = make().eval().validate([batch, batch])
    assert set(result.figures) == {
        "reconstruction",
        "content_similarity",
        "equal_error_rate",
        "retrieval",
        "converted_retrieval",
    }
    assert result.mels["converted"].shape == (80, 64)


def test_validate_of_a_model_that_keeps_content_and_speaker_apart(batch, monkeypatch):
    """Content latents that do not depend on the voice have a similarity of 1."""
    task = make().eval()
    model = task.released
    content = torch.randn(3, 4, 16)
    monkeypatch.setattr(model.content, "forward", lambda mel, *_, **__: Gaussian(content, torch.zeros_like(content)))
    result = task.validate([batch])
    assert result.figures["content_similarity"] == pytest.approx(1)


def test_speaker_figures_of_known_similarities():
    """Of four speakers, two are verified and retrieved with certainty; the other two have each other's embeddings."""
    speakers = torch.arange(4)
    references = torch.eye(4)
    perfect = speaker_figures(references, references, references, speakers)
    assert perfect == {"equal_error_rate": 0.0, "retrieval": 1.0, "converted_retrieval": 1.0}
    swapped = references[[0, 1, 3, 2]]
    half = speaker_figures(references, swapped, references.roll(1, 0), speakers)
    # Of the 4 genuine trials 2 score 0; of the 12 impostor trials 2 score 1.
    assert half == {
        "equal_error_rate": pytest.approx((2 / 4 + 2 / 12) / 2),
        "retrieval": 0.5,
        "converted_retrieval": 0.0,
    }


def test_speaker_figures_count_rows_of_one_speaker_as_the_same():
    speakers = torch.tensor([0, 1, 0, 1])
    references = torch.eye(2).repeat(2, 1)
    figures = speaker_figures(references, references, references, speakers)
    assert figures == {"equal_error_rate": 0.0, "retrieval": 1.0, "converted_retrieval": 1.0}


def test_training_in_bfloat16_gives_finite_gradients_and_keeps_the_centre_in_float32(batch):
    task = make(conversion_share=0.5, conversions_from=0)
    with torch.autocast("cpu", torch.bfloat16):
        totals, _ = task(batch, 1)
    totals["model"].backward(inputs=task.parameter_groups()["model"])
    gradients = [parameter.grad for parameter in task.parameter_groups()["model"] if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert task.model.speaker.centre.dtype == torch.float32
    assert task.model.speaker.centre.abs().sum() > 0
