import pytest
import torch

from tests.corpus import TINY
from tests.synthetic import speak
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Statistics
from vcvae.models.conversion.voice import Voice
from vcvae.training.tasks.conversion import ConversionConfig, ConversionTask

WHERE = {"output": "", "data": {"train": "", "dev": ""}}

PARTS = ("content_fast", "content_slow", "speaker", "decoder_slow", "decoder_fast")


@pytest.fixture
def batch():
    """Three speakers, four segments each."""
    samples = [
        [torch.from_numpy(speak("aiueo", f0=100 + 50 * k, seconds=0.75, seed=i))[:16384] for i in range(4)]
        for k in range(3)
    ]
    return {
        "samples": torch.stack([torch.stack(pair) for pair in samples]),
        "bandwidth": torch.tensor([[8000.0] * 4, [5500.0, 8000.0] * 2, [4000.0] * 4]),
        "speaker": torch.tensor([4, 7, 9]),
    }


def make(**changes):
    torch.manual_seed(0)
    changes = {"voice_augmentation": {"share": 0}} | changes
    return ConversionTask(ConversionConfig(**WHERE, model=TINY, **changes), speakers=10)


def test_every_term_reaches_the_part_that_it_is_for(batch):
    parts = {
        "reconstruction": {"content", "speaker", "decoder"},
        "kl": {"content"},
        "contrastive": {"speaker"},
        "aam_softmax": {"speaker", "prototypes"},
        "f0": {"f0"},
        "recognition": {"content", "speaker", "decoder"},
        "content_mse": {"content", "speaker", "decoder"},
        "adversarial": {"content", "speaker", "decoder"},
        "features": {"content", "speaker", "decoder"},
    }
    for term, expected in parts.items():
        others = {name: float(name == term) for name in parts}
        others["adversarial"] += 1e-9 * (term == "features")  # without the one, nobody looks for the other
        task = make(weights=others, conversions=0.5, conversions_from=0, kl_warmup=0)
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
    """Where the reference of each segment, and what the decoder is given, will be found."""
    speaker_references, decoded = [], []
    heard = task.model.reference
    task.model.reference = lambda *arguments, **options: (
        speaker_references.append(heard(*arguments, **options)) or speaker_references[-1]
    )
    task.model.decoder.register_forward_pre_hook(lambda _module, inputs: decoded.append(inputs))
    return speaker_references, decoded


def test_a_segment_is_rebuilt_with_the_reference_of_the_others(batch):
    task = make()
    speaker_references, decoded = spy(task)
    task(batch, 0)
    given, (own,) = decoded[0][1], speaker_references
    for i in range(12):
        others = [(i + 3 * k) % 12 for k in (1, 2, 3)]
        mean = own.latent[others].mean(0)
        torch.testing.assert_close(given.latent[i], mean / mean.norm())
        frames = {tuple(frame.tolist()) for j in others for frame in own.keys[j]}
        assert {tuple(frame.tolist()) for frame in given.keys[i]} == frames
        assert given.values.shape[1] == given.mask.shape[1] == 3 * own.values.shape[1]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_conversions_go_to_the_speaker_before_in_that_speakers_register(batch, share):
    task = make(weights={"recognition": 1.0}, conversions_from=0, conversions=share)
    _, decoded = spy(task)
    task(batch, 0)
    (_, rebuilt, contour), (_, converted, moved) = decoded
    assert len(converted.latent) == max(1, round(share * 12))
    f0_statistics = contour.statistics()
    mean, spread = (x.reshape(4, 3).nanmean(0) for x in (f0_statistics.mean, f0_statistics.std))
    for i in range(len(converted.latent)):
        source, target = i % 3, (i - 1) % 3
        torch.testing.assert_close(converted.latent[i], rebuilt.latent[3 * (i // 3) + target])
        here, there = (F0Statistics(mean[[who]], spread[[who]]) for who in (source, target))
        torch.testing.assert_close(moved.log_f0[[i]], contour[[i]].transfer(here, there).log_f0)


def test_what_is_disguised_is_heard_in_another_voice_and_rebuilt_as_it_was(batch):
    task = make(back_translation=0.5, conversions_from=3, content_input={}, speaker_input={})
    heard = []
    task.model.content.register_forward_pre_hook(lambda _module, inputs: heard.append(inputs[0]))
    task(batch, 2)
    task(batch, 3)
    plain, back_translated = heard
    valid_bands = task.segment_batch.analyse(batch)[2]
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


def test_parallel_speech_is_rebuilt_from_what_another_says(batch):
    task = make(back_translation=0, content_input={}, speaker_input={})
    heard, decoded = [], []
    task.model.content.register_forward_pre_hook(lambda _module, inputs: heard.append(inputs[0]))
    batch["parallel"] = batch["samples"].roll(1, 0)
    batch["is_parallel"] = torch.tensor([[True] * 4, [False] * 4, [True, False] * 2])
    task.model.reference, reference = (
        (lambda mel, *_, **__: decoded.append(mel) or reference(mel, *_, **__)),
        task.model.reference,
    )
    task(batch, 0)
    own = task.segment_batch.analyse(batch)[1]
    torch.testing.assert_close(decoded[0], own)  # the voice is heard in the speaker's own
    for i in range(12):
        speaker, segment = i % 3, i // 3
        source = (speaker - 1) % 3 if batch["is_parallel"][speaker, segment] else speaker
        torch.testing.assert_close(heard[0][i], own[3 * segment + source])


def test_parallel_speech_is_to_have_one_content(batch):
    weights = dict.fromkeys(("reconstruction", "kl", "contrastive", "aam_softmax", "f0", "adversarial"), 0.0)
    task = make(weights=weights | {"parallel": 1.0}, content_input={}, back_translation=0)
    batch["parallel"] = batch["samples"].clone()
    batch["is_parallel"] = torch.tensor([[True] * 4, [False] * 4, [True] * 4])
    assert task(batch, 0)[0]["model"].item() == pytest.approx(0.0, abs=1e-6)  # who says the same in the same voice
    batch["parallel"][2] = batch["samples"][0]
    totals, terms = task(batch, 0)
    own = task.model.content(task.segment_batch.analyse(batch)[1]).mean.unflatten(0, (4, 3))
    expected = (own[:, 2] - own[:, 0]).square().mean() / 2  # of the two, one agrees
    assert totals["model"].item() == pytest.approx(terms["parallel"].item()) == pytest.approx(expected.item(), rel=1e-4)
    totals["model"].backward(inputs=task.parameter_groups()["model"])
    moved = {n.split(".")[1] for n, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {"content"}
    batch["is_parallel"][:] = False
    assert task(batch, 0)[1]["parallel"].item() == 0.0


def test_the_upper_bands_of_some_speakers_are_not_heard(batch):
    valid_bands = torch.ones(12, 80)
    for share, expected in ((0.0, 80), (1.0, 68)):
        band_dropout = make(band_dropout=share)._band_dropout(valid_bands)
        assert (band_dropout.sum(dim=1) == expected).all()
    torch.manual_seed(0)
    heard = make(band_dropout=0.5)._band_dropout(valid_bands).sum(dim=1).reshape(4, 3)
    assert (heard == heard[0]).all()  # of a speaker, in all segments or in none


def test_a_run_can_start_from_a_converter(tmp_path):
    first = make()
    first.released.save_pretrained(tmp_path / "converter")
    second = make(init_from=str(tmp_path / "converter"), seed=1)
    for name, value in first.released.state_dict().items():
        torch.testing.assert_close(second.released.state_dict()[name], value, atol=1e-3, rtol=1e-3)  # float16
    with pytest.raises(VcvaeError, match=r"init_from: .* has other sizes"):
        ConversionTask(
            ConversionConfig(**WHERE, model=TINY | {"slow_channels": 24}, init_from=str(tmp_path / "converter")), 2
        )


def test_a_deeper_converter_begins_where_a_shallower_one_stands(tmp_path, batch):
    shallow = make(segments=4)
    shallow.released.save_pretrained(tmp_path / "converter")
    more = {f"{part}_blocks": getattr(shallow.config.model, f"{part}_blocks") + 1 for part in PARTS}
    sizes = TINY | more
    torch.manual_seed(1)
    deep = ConversionTask(ConversionConfig(**WHERE, model=sizes, init_from=str(tmp_path / "converter")), speakers=10)
    assert sum(p.numel() for p in deep.model.parameters()) > sum(p.numel() for p in shallow.model.parameters())
    mel = shallow.segment_batch.analyse(batch)[1][:3]
    with torch.no_grad():
        said, again = (task.released.convert(mel, task.released.voice(mel.roll(1, 0))) for task in (shallow, deep))
    torch.testing.assert_close(again, said, atol=1e-3, rtol=1e-3)
    deep.released.save_pretrained(tmp_path / "deeper")
    with pytest.raises(VcvaeError, match=r"init_from: .* or more blocks"):  # nor may it be shallower
        ConversionTask(ConversionConfig(**WHERE, model=TINY, init_from=str(tmp_path / "deeper")), 2)


def test_an_invented_voice_is_nobodys(batch):
    task = make(voice_augmentation={"share": 1.0}, weights={"aam_softmax": 1.0})
    assert task(batch, 0)[1]["aam_softmax"].item() == 0.0
    task = make(weights={"aam_softmax": 1.0})
    assert task(batch, 0)[1]["aam_softmax"].item() > 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_step_is_made_on_a_gpu_in_half_precision(batch):
    task = make(voice_augmentation={"share": 0.5}, conversions_from=0).cuda()
    on = {name: value.cuda() for name, value in batch.items()}
    with torch.autocast("cuda", torch.bfloat16):
        totals, terms = task(on, 0)
    assert all(torch.isfinite(term) for term in terms.values())
    totals["model"].backward(inputs=task.parameter_groups()["model"])


def test_the_kl_warms_up(batch):
    task = make(
        weights={"reconstruction": 0, "contrastive": 0, "aam_softmax": 0, "f0": 0, "kl": 1.0},
        kl_warmup=100,
        conversions_from=10_000,
    )
    for step, share in ((0, 0.0), (50, 0.5), (1000, 1.0)):
        torch.manual_seed(1)
        totals, terms = task(batch, step)
        assert totals["model"].item() == pytest.approx(share * terms["kl"].item())


def test_validation_tells_a_figure_for_each_question(batch):
    task = make().eval()
    found = task.validate([batch, batch])
    figures, mels = found.figures, found.mels
    assert set(figures) == {
        "reconstruction",
        "content_similarity",
        "equal_error_rate",
        "retrieval",
        "converted_retrieval",
    }
    assert 0 <= figures["equal_error_rate"] <= 1
    assert -1 <= figures["content_similarity"] <= 1
    assert mels["converted"].shape == (80, 64)
