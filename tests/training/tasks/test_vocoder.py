import pytest
import torch

from tests.corpus import NO_FILES
from tests.synthetic import speak
from vcvae.errors import VcvaeError
from vcvae.features.mel import MelConfig, MelSpectrogram, valid_band_mask
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.models.conversion.voice import Voice
from vcvae.training.discriminators.waveform import DiscriminatorOutput
from vcvae.training.loop import train
from vcvae.training.run_folder import load_run
from vcvae.training.segments import segment_major
from vcvae.training.tasks import parse
from vcvae.training.tasks.vocoder import VocoderConfig, VocoderTask
from vcvae.vocoder import SourceFilterVocoder, load_vocoder
from vcvae.vocoder.source_filter import SourceFilterVocoderConfig

SMALL = {"channels": 16, "blocks": 1, "f0_channels": 8, "f0_blocks": 1}
SLIM = {"period_channels": [2, 2], "spectrum_channels": [2, 2], "spectrum_strides": [4, 2]}


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
        VocoderConfig.parse(NO_FILES | {"model": SMALL, "discriminators": SLIM} | changes, context="test"), speakers=2
    )


def test_parameter_groups_are_disjoint_and_complete():
    task = make()
    owned = [id(p) for parameters in task.parameter_groups().values() for p in parameters]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in task.parameters() if p.requires_grad}


def test_each_total_trains_its_own_parameter_group(batch):
    task = make(adversarial_from=0)
    totals, _ = task(batch, 0)
    for name, total in totals.items():
        parameters = task.parameter_groups()[name]
        total.backward(inputs=parameters, retain_graph=True)
        moved = [p.grad is not None and p.grad.abs().sum() > 0 for p in parameters]
        assert sum(moved) > 0.9 * len(moved), name
        task.zero_grad()


def test_discriminators_start_at_adversarial_from(batch):
    task = make(adversarial_from=5)
    assert set(task(batch, 4)[0]) == {"generator"}
    totals, terms = task(batch, 5)
    assert set(totals) == {"discriminator", "generator"}
    assert {"adversarial", "feature_matching"} <= set(terms)


def test_discriminators_get_nothing_above_the_bandwidth(batch, monkeypatch):
    task, inputs = make(adversarial_from=0), []
    monkeypatch.setattr(
        task.discriminators, "forward", lambda samples: inputs.append(samples) or DiscriminatorOutput([], [])
    )
    monkeypatch.setattr("vcvae.training.losses.discriminator_loss", lambda *_: torch.tensor(0.0))
    monkeypatch.setattr("vcvae.training.losses.generator_loss", lambda *_: torch.tensor(0.0))
    monkeypatch.setattr("vcvae.training.losses.feature_matching", lambda *_: torch.tensor(0.0))
    task(batch, 0)
    for samples in inputs:
        above = torch.fft.rfft(samples)[:, int(8192 * 8100 / 22050) :].abs().sum(dim=1)
        assert (above[[1, 2]] < 0.1).all()
        assert above[3] > 1


@pytest.fixture
def converter(tmp_path):
    torch.manual_seed(0)
    model = DisentanglingVAE(DisentanglingConfig(fast_channels=16, slow_channels=16, decoder_slow_blocks=1)).eval()
    model.save_pretrained(tmp_path / "converter")
    return str(tmp_path / "converter")


def test_conversions_have_the_teachers_synthesis_as_target(batch, converter, monkeypatch):
    """The first half of the rows, segment 0 of both speakers, is converted to the other speaker."""
    task = make(converter=converter, teacher="griffin-lim", gain=(0.0, 0.0)).eval()
    teacher_calls, generator_calls, distance_calls = [], [], []
    teacher = task.teacher.forward
    synthesize = SourceFilterVocoder.synthesize_for_training
    distance = task.spectra.distance

    def teacher_forward(mel):
        teacher_calls.append((mel, teacher(mel)))
        return teacher_calls[-1][1]

    def synthesize_for_training(self, mel, f0):
        generator_calls.append((mel, f0))
        return synthesize(self, mel, f0)

    def spectral_distance(*arguments):
        distance_calls.append(arguments)
        return distance(*arguments)

    monkeypatch.setattr(task.teacher, "forward", teacher_forward)
    monkeypatch.setattr(SourceFilterVocoder, "synthesize_for_training", synthesize_for_training)
    monkeypatch.setattr(task.spectra, "distance", spectral_distance)
    task(batch, 0)

    model = task.converter
    audio = segment_major(batch["samples"])
    mel = task.spectrogram(audio)
    valid_bands = valid_band_mask(segment_major(batch["bandwidth"]), MelConfig())
    voices = [model.voice(mel[k::2], valid_bands=valid_bands[k::2]).average() for k in range(2)]
    targets = Voice.join([voices[1], voices[0]])
    ((converted, teacher_audio),) = teacher_calls
    torch.testing.assert_close(converted, model.convert(mel[:2], targets))
    ((generator_mel, f0),) = generator_calls
    assert torch.equal(generator_mel, torch.cat([converted, mel[2:]]))
    torch.testing.assert_close(f0[:2].log_f0, model.target_f0(mel[:2], targets).log_f0)
    recorded_f0 = task.model.f0.decode(*task.model.f0_logits(mel[2:]))
    torch.testing.assert_close(f0[2:].log_f0, recorded_f0.log_f0)
    target_spectra, _, bandwidth = distance_calls[0]
    for spectrum, of_teacher, of_recorded in zip(
        target_spectra, task.spectra(teacher_audio), task.spectra(audio), strict=True
    ):
        torch.testing.assert_close(spectrum, torch.cat([of_teacher, of_recorded[2:]]))
    assert bandwidth.tolist() == [11025, 11025, 8000, 11025]


def test_only_discriminators_use_the_precision_of_the_run(batch):
    task, terms = make(adversarial_from=0), []
    for dtype in (torch.float32, torch.bfloat16):
        outputs = []
        hook = task.discriminators[0].layers[0].register_forward_hook(lambda *call, to=outputs: to.append(call[2]))
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            terms.append(task(batch, 0)[1])
        hook.remove()
        assert {x.dtype for x in outputs} == {dtype}
    full, half = terms
    for name in ("spectrum", "f0", "f0_l1"):
        torch.testing.assert_close(half[name], full[name], atol=0, rtol=0, msg=name)
    for name in ("adversarial", "feature_matching"):
        torch.testing.assert_close(half[name].float(), full[name], atol=0.02, rtol=0.05, msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_forward_runs_on_a_gpu_in_bfloat16(batch):
    task = make(adversarial_from=0).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        totals, _ = task({name: x.cuda() for name, x in batch.items()}, 0)
    for name, total in totals.items():
        total.backward(inputs=task.parameter_groups()[name], retain_graph=True)
        assert torch.isfinite(total), name


def test_init_from_may_differ_in_post_processing_but_not_in_size(tmp_path):
    torch.manual_seed(1)
    saved = SourceFilterVocoder(SourceFilterVocoderConfig(**SMALL))
    saved.save_pretrained(tmp_path)
    task = make(init_from=str(tmp_path), model=SMALL | {"ground_truth": {"griffin_lim_iterations": 0}})
    assert task.released.config.ground_truth.griffin_lim_iterations == 0
    torch.testing.assert_close(task.model.backbone.stem.weight, saved.backbone.stem.weight)
    with pytest.raises(VcvaeError, match="has other sizes than 'model'"):
        make(init_from=str(tmp_path), model=SMALL | {"channels": 8})


@pytest.mark.parametrize("given", [{"converter": "a"}, {"teacher": "griffin-lim"}])
def test_converter_and_teacher_must_be_given_together(given):
    with pytest.raises(VcvaeError, match="converter and teacher must be given together"):
        make(**given)


def run(corpus, output, **changes):
    values = {
        "task": "vocoder",
        "output": str(output),
        "data": {"train": str(corpus), "dev": str(corpus)},
        "batch_speakers": 2,
        "workers": 0,
        "validation_speakers": 2,
        "validate_every": 1000,
        "checkpoint_every": 2,
        "model": SMALL,
        "discriminators": SLIM,
    }
    return train(parse(values | changes, context="test"))


def test_train_resumed_equals_an_uninterrupted_run(corpus, tmp_path):
    whole = run(corpus, tmp_path / "whole", steps=4, adversarial_from=1)
    run(corpus, tmp_path / "parts", steps=2, adversarial_from=1)
    parts = run(corpus, tmp_path / "parts", steps=4, adversarial_from=1)
    a = load_run(whole)[1].state_dict()
    b = load_run(parts)[1].state_dict()
    # During the warm-up the learning rate does not depend on the number of steps.
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], atol=0, rtol=0, msg=name)


@pytest.mark.slow
def test_train_reduces_the_losses_and_saves_a_vocoder(corpus, tmp_path, batch):
    settings = {"optimizer": {"learning_rate": 0.003, "warmup": 5}, "adversarial_from": 1000, "ema_decay": 0.9}
    terms = []
    for steps in (1, 60):
        task = load_run(run(corpus, tmp_path / "run", steps=steps, **settings))[1]
        torch.manual_seed(0)
        terms.append(task(batch, 0)[1])
    for name in ("spectrum", "f0"):
        assert terms[1][name] < 0.9 * terms[0][name], name
    task.released.half().save_pretrained(tmp_path / "model")
    mel = MelSpectrogram()(torch.from_numpy(speak("aisoe", f0=140))[None])
    assert load_vocoder(f"source-filter:{tmp_path / 'model'}")(mel).shape == (1, 86 * 256)
