import pytest
import torch

from tests.corpus import make_corpus
from tests.synthetic import speak
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig, MelSpectrogram, valid_band_mask
from vcvae.models.conversion.vae import DisentanglingConfig, DisentanglingVAE
from vcvae.training.discriminators.waveform import DiscriminatorOutput
from vcvae.training.loop import load_run, train
from vcvae.training.tasks import parse
from vcvae.training.tasks.vocoder import VocoderConfig, VocoderTask
from vcvae.vocoder import SourceFilterVocoder, load_vocoder
from vcvae.vocoder.source_filter import SourceFilterVocoderConfig

SMALL = {"channels": 16, "blocks": 1, "f0_channels": 8, "f0_blocks": 1}
SLIM = {"period_channels": [2, 2], "spectrum_channels": [2, 2], "spectrum_strides": [4, 2]}
WHERE = {"output": "", "data": {"train": "", "dev": ""}}


@pytest.fixture
def batch():
    samples = [torch.from_numpy(speak("aiueo", f0=100 + 30 * k, seconds=0.4, seed=k))[:8192] for k in range(4)]
    return {
        "samples": torch.stack(samples).unflatten(0, (2, 2)),
        "bandwidth": torch.tensor([[11025.0, 8000.0], [5500.0, 11025.0]]),
        "speaker": torch.tensor([0, 1]),
    }


def make(**changes):
    torch.manual_seed(0)
    return VocoderTask(
        VocoderConfig.parse(WHERE | {"model": SMALL, "discriminators": SLIM} | changes, where="test"), speakers=2
    )


def test_players_own_all_that_learns_and_share_nothing():
    task = make()
    owned = [id(p) for parameters in task.parameter_groups().values() for p in parameters]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in task.parameters() if p.requires_grad}


def test_each_total_moves_its_own_player(batch):
    task = make(adversarial_from=0)
    totals, _ = task(batch, 0)
    for name, total in totals.items():
        parameters = task.parameter_groups()[name]
        total.backward(inputs=parameters, retain_graph=True)
        moved = [p.grad is not None and p.grad.abs().sum() > 0 for p in parameters]
        assert sum(moved) > 0.9 * len(moved), name
        task.zero_grad()


def test_discriminators_join_when_they_are_told_to(batch):
    task = make(adversarial_from=5)
    assert set(task(batch, 4)[0]) == {"generator"}
    totals, terms = task(batch, 5)
    assert set(totals) == {"discriminator", "generator"}
    assert {"adversarial", "features"} <= set(terms)


def test_what_is_above_a_recordings_bandwidth_is_not_judged(batch, monkeypatch):
    task, judged = make(adversarial_from=0), []
    monkeypatch.setattr(
        task.discriminators, "forward", lambda samples: judged.append(samples) or DiscriminatorOutput([], [])
    )
    monkeypatch.setattr("vcvae.training.losses.discriminator_loss", lambda *_: torch.tensor(0.0))
    monkeypatch.setattr("vcvae.training.losses.generator_loss", lambda *_: torch.tensor(0.0))
    monkeypatch.setattr("vcvae.training.losses.feature_matching", lambda *_: torch.tensor(0.0))
    task(batch, 0)
    for samples in judged:
        above = torch.fft.rfft(samples)[:, int(8192 * 8100 / 22050) :].abs().sum(dim=1)
        assert (above[[1, 2]] < 0.1).all()
        assert above[3] > 1


@pytest.fixture
def converter(tmp_path):
    torch.manual_seed(0)
    model = DisentanglingVAE(DisentanglingConfig(fast_channels=16, slow_channels=16, decoder_slow_blocks=1)).eval()
    model.save_pretrained(tmp_path / "converter")
    return str(tmp_path / "converter")


def test_what_is_converted_is_spoken_as_the_teacher_speaks_it(batch, converter, monkeypatch):
    task = make(converter=converter, teacher="griffin-lim", gain=(0.0, 0.0)).eval()
    shown, asked, compared = [], [], []
    teacher, synthesize_for_training, distance = (
        task.teacher.forward,
        SourceFilterVocoder.synthesize_for_training,
        task.spectrum.distance,
    )
    monkeypatch.setattr(task.teacher, "forward", lambda mel: shown.append((mel, teacher(mel))) or shown[0][1])
    monkeypatch.setattr(
        SourceFilterVocoder,
        "synthesize_for_training",
        lambda self, *heard: asked.append(heard) or synthesize_for_training(self, *heard),
    )
    monkeypatch.setattr(task.spectrum, "distance", lambda *args: compared.append(args) or distance(*args))
    task(batch, 0)

    (mel, answer), model, natural = shown[0], task.converter, batch["samples"].flatten(0, 1)
    heard = task.analysis(natural)
    valid_bands = valid_band_mask(batch["bandwidth"].flatten(), MelConfig())
    other = model.voice(heard[2:], valid_bands=valid_bands[2:]).average()
    torch.testing.assert_close(mel, model.convert(heard[:2], other))
    ((spoken, told),) = asked
    assert torch.equal(spoken, torch.cat([mel, heard[2:]]))
    torch.testing.assert_close(told[:2].log_f0, model.target_f0(heard[:2], other).log_f0)
    torch.testing.assert_close(told[2:].log_f0, task.generator.f0.decode(*task.generator.f0_logits(heard[2:])).log_f0)
    wanted, _, bandwidth = compared[0]
    for spectrum, of_answer, of_natural in zip(wanted, task.spectrum(answer), task.spectrum(natural), strict=True):
        torch.testing.assert_close(spectrum, torch.cat([of_answer, of_natural[2:]]))
    assert bandwidth.tolist() == [11025, 11025, 8000, 11025]


def test_only_discriminators_work_in_the_runs_precision(batch):
    task, found = make(adversarial_from=0), []
    for dtype in (torch.float32, torch.bfloat16):
        judged = []
        watch = task.discriminators[0].layers[0].register_forward_hook(lambda *heard, to=judged: to.append(heard[2]))
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            found.append(task(batch, 0)[1])
        watch.remove()
        assert {x.dtype for x in judged} == {dtype}
    full, half = found
    for name in ("spectrum", "f0", "f0_l1"):
        torch.testing.assert_close(half[name], full[name], atol=0, rtol=0, msg=name)
    for name in ("adversarial", "features"):
        torch.testing.assert_close(half[name].float(), full[name], atol=0.02, rtol=0.05, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_is_made_on_a_gpu_in_half_precision(batch):
    task = make(adversarial_from=0).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        totals, _ = task({name: x.cuda() for name, x in batch.items()}, 0)
    for name, total in totals.items():
        total.backward(inputs=task.parameter_groups()[name], retain_graph=True)
        assert torch.isfinite(total), name


def test_a_start_may_be_rendered_otherwise_but_not_be_of_another_size(tmp_path):
    torch.manual_seed(1)
    there = SourceFilterVocoder(SourceFilterVocoderConfig(**SMALL))
    there.save_pretrained(tmp_path)
    task = make(init_from=str(tmp_path), model=SMALL | {"natural": {"griffin_lim_iterations": 0}})
    assert task.released.config.ground_truth.griffin_lim_iterations == 0
    torch.testing.assert_close(task.generator.backbone.stem.weight, there.backbone.stem.weight)
    with pytest.raises(VcvaeError, match="has other sizes than 'model' says"):
        make(init_from=str(tmp_path), model=SMALL | {"channels": 8})


@pytest.mark.parametrize("given", [{"converter": "a"}, {"teacher": "griffin-lim"}])
def test_a_converter_needs_a_teacher(given):
    with pytest.raises(VcvaeError, match="converter and teacher must be given together"):
        make(**given)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return str(make_corpus(tmp_path_factory.mktemp("corpus")))


def run(corpus, output, **changes):
    values = {
        "task": "vocoder",
        "output": str(output),
        "data": {"train": corpus, "dev": corpus},
        "batch_speakers": 2,
        "workers": 0,
        "validation_speakers": 2,
        "validate_every": 1000,
        "checkpoint_every": 2,
        "model": SMALL,
        "discriminators": SLIM,
    }
    return train(parse(values | changes, where="test"))


def test_a_resumed_run_is_the_one_that_was_never_stopped(corpus, tmp_path):
    whole = run(corpus, tmp_path / "whole", steps=4, adversarial_from=1)
    run(corpus, tmp_path / "parts", steps=2, adversarial_from=1)
    parts = run(corpus, tmp_path / "parts", steps=4, adversarial_from=1)
    a, b = (load_run(folder)[1].state_dict() for folder in (whole, parts))
    # The rate at a step depends on the number of steps; where it is still warming up, it does not.
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], atol=0, rtol=0, msg=name)


def test_training_learns_and_exports(corpus, tmp_path, batch):
    settings = {"optimizer": {"learning_rate": 0.003, "warmup": 5}, "adversarial_from": 1000, "average": 0.9}
    terms = []
    for steps in (1, 60):
        task = load_run(run(corpus, tmp_path / "run", steps=steps, **settings))[1]
        torch.manual_seed(0)
        terms.append(task(batch, 0)[1])
    for name in ("spectrum", "f0"):
        assert terms[1][name] < 0.9 * terms[0][name], name
    task.released.half().save_pretrained(tmp_path / "model")
    mel = MelSpectrogram()(torch.from_numpy(speak("aisoe", f0=140))[None])
    assert load_vocoder(f"neural:{tmp_path / 'model'}")(mel).shape == (1, 86 * 256)
