import numpy as np
import pytest
import torch

from tests.corpus import EAR, RANKS, TINY
from tests.synthetic import speak
from vcvae.models.disentangling import DisentanglingConfig, DisentanglingVAE
from vcvae.models.ecapa import EcapaConfig, EcapaTDNN
from vcvae.training import listener
from vcvae.training.listener import ListenerRun, ListenerTask

WHERE = {"output": "", "data": {"train": "", "dev": ""}, "vocoder": "griffin-lim"}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A task whose teacher is small, and has seen nothing."""

    def small(_):
        torch.manual_seed(0)
        return EcapaTDNN(EcapaConfig(**EAR)).eval()

    monkeypatch.setattr(listener, "load_ecapa", small)
    torch.manual_seed(0)
    DisentanglingVAE(DisentanglingConfig(**TINY)).save_pretrained(tmp_path)

    def make(**options):
        sizes = {**EAR, "ranks": RANKS}
        options = {"converter": str(tmp_path), "model": sizes, "segment_frames": 40, **WHERE, **options}
        return ListenerTask(ListenerRun.parse(options, where=""), speakers=2)

    return make


@pytest.fixture
def batch():
    """Two speakers, two segments each."""
    samples = [
        [torch.from_numpy(speak("aiueo", pitch=100 + 80 * k, seconds=0.5, seed=i))[:10240] for i in range(2)]
        for k in range(2)
    ]
    return {
        "samples": torch.stack([torch.stack(segments) for segments in samples]),
        "bandwidth": torch.full((2, 2), 11025.0),
        "speaker": torch.tensor([0, 1]),
    }


def test_thinning_alone_is_near_the_teacher_and_learning_nearer(make, batch):
    torch.manual_seed(0)
    task = make(conversions=0, invention={"share": 0}, noise=0)
    before = task.validate([batch]).figures["likeness_of_natural"]
    task.begin(iter([batch]))
    begun = task.validate([batch]).figures["likeness_of_natural"]
    assert begun > 0.8 > before
    optimizer = torch.optim.Adam(task.players()["listener"], lr=2e-3)
    for step in range(40):
        totals, _ = task(batch, step)
        optimizer.zero_grad()
        totals["listener"].backward()
        optimizer.step()
        task.after_step()
    learning = {name for name, p in task.named_parameters() if p.grad is not None}
    assert learning
    assert all(name.startswith("model.") for name in learning)
    assert task.validate([batch]).figures["likeness_of_natural"] > begun


def test_what_the_teacher_said_is_remembered_and_the_oldest_is_forgotten(make, batch):
    task = make(memory=6, conversions=0, invention={"share": 0})
    mel, label = task._ask(batch)
    for step in range(2):  # four segments a step, and room for six
        task(batch, step)
    order = [2, 3, 2, 3, 0, 1]  # places 4, 5 and then 0, 1 are the second step's
    torch.testing.assert_close(task.said, label[order])
    torch.testing.assert_close(task.heard, mel[order].half())
    assert {"heard", "said"} <= task.state_dict().keys()


def test_recordings_are_heard_as_they_are_and_what_is_made_by_the_vocoder(make, batch, monkeypatch):
    task, heard = make(invention={"share": 0}), []
    bands = task._bands

    def spy(samples):
        heard.append(samples)
        return bands(samples)

    monkeypatch.setattr(task, "_bands", spy)
    mel, _ = task._ask(batch, conversions=0.0)
    torch.testing.assert_close(torch.stack(heard), batch["samples"].transpose(0, 1).flatten(0, 1))
    torch.testing.assert_close(mel, task.exchange.analyse(batch)[1])
    torch.manual_seed(0)
    other, said = task._ask(batch, conversions=1.0)
    assert (other - mel).abs().mean() > 0.1
    torch.testing.assert_close(said.norm(dim=1), torch.ones(4))
    spoken = task.given[1](other)
    assert np.corrcoef(heard[4].abs(), spoken[0].abs())[0, 1] > 0.5  # Griffin-Lim begins with phases that it draws


def test_a_part_is_of_all_the_same_length_and_noise_is_bounded(make):
    task = make(noise=0)
    mel = torch.arange(40.0).expand(3, 80, 40)
    for _ in range(5):
        part = task._in_part(mel)
        assert 20 <= part.shape[2] <= 40
        assert (part.diff(dim=2) == 1).all()
