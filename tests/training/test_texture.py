import math
from functools import partial

import pytest
import torch

from tests.corpus import TINY
from tests.synthetic import speak
from vcvae.adapt import adapt
from vcvae.errors import VcvaeError
from vcvae.models.disentangling import DisentanglingConfig, DisentanglingVAE
from vcvae.models.voice import Timbre
from vcvae.training.texture import TextureConfig, TextureTask

WHERE = {"output": "", "data": {"train": "", "dev": ""}}


@pytest.fixture
def batch():
    """Two speakers, four segments each; the second is band-limited."""
    samples = [
        [torch.from_numpy(speak("aiueo", pitch=100 + 80 * k, seconds=0.5, seed=i))[:10240] for i in range(4)]
        for k in range(2)
    ]
    return {
        "samples": torch.stack([torch.stack(segments) for segments in samples]),
        "bandwidth": torch.tensor([[8000.0] * 4, [4000.0] * 4]),
        "speaker": torch.tensor([0, 1]),
    }


@pytest.fixture
def task(tmp_path):
    torch.manual_seed(0)
    DisentanglingVAE(DisentanglingConfig(**TINY)).save_pretrained(tmp_path)
    return TextureTask(TextureConfig(**WHERE, converter=str(tmp_path), channels=24, blocks=1), speakers=2)


def test_another_size_than_the_converters_own_is_one_sentence(task, tmp_path):
    task.released.save_pretrained(tmp_path / "with")
    again = TextureConfig(**WHERE, converter=str(tmp_path / "with"), channels=24, blocks=1)
    assert again.model == task.model.config
    with pytest.raises(VcvaeError, match="1 blocks of 24 channels"):
        TextureConfig(**WHERE, converter=str(tmp_path / "with"), channels=16, blocks=1).model  # noqa: B018


def test_only_the_texture_and_its_critic_learn(task, batch):
    totals, _ = task(batch, 0)
    for player, total in totals.items():
        total.backward(inputs=task.players()[player], retain_graph=True)
    learning = {name for name, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learning
    assert all(name.startswith(("model.decoder.texture.", "critic.")) for name in learning)
    assert any(name.startswith("model.decoder.texture.") for name in learning)


def test_what_is_released_is_the_converter_with_the_averaged_texture(task):
    start = {name: value.clone() for name, value in task.model.state_dict().items()}
    for parameter in task.model.decoder.texture.parameters():
        parameter.data += 1.0
    task.after_step()
    released = task.released.state_dict()
    assert released.keys() == start.keys()
    for name, value in released.items():
        if name.startswith("decoder.texture."):
            assert torch.equal(value, task.average.module.state_dict()[name.removeprefix("decoder.texture.")])
        else:
            assert torch.equal(value, start[name])
    assert not any(p.requires_grad for p in task.released.parameters())


def test_flutter_is_in_units_of_the_originals(task, batch, monkeypatch):
    mel = task.exchange.analyse(batch)[1]

    def decode(*_given, articulation=None, **_rest):
        return mel.mean(dim=2, keepdim=True).expand_as(mel) if articulation is None else mel

    averaged = task.released
    monkeypatch.setattr(averaged.decoder, "forward", decode)
    monkeypatch.setattr(TextureTask, "released", averaged)
    figures = {"flutter": pytest.approx(1), "flutter_of_medians": pytest.approx(0)}
    assert task.validate([batch]).figures == figures | {"flutter_error": pytest.approx(0)}


def test_silence_and_unknown_bands_weigh_nothing(task, batch):
    """Nor do they make the figures something else than numbers, be they all that there is."""
    silent = batch | {"samples": torch.zeros_like(batch["samples"])}
    unknown = batch | {"bandwidth": torch.zeros_like(batch["bandwidth"])}
    alone = task.validate([unknown]).figures
    assert alone == {"flutter": 0.0, "flutter_of_medians": 0.0, "flutter_error": 1.0}
    assert all(math.isfinite(value) for value in task.validate([silent]).figures.values())
    assert task.validate([unknown, batch]).figures == pytest.approx(task.validate([batch]).figures)


def test_texture_learns_to_flutter(task, batch):
    """Speech that is all noise, medians that know nothing of it, and an articulation that says almost nothing."""
    still = {"articulation_cutoff": 40.0}
    for model in (task.model, task.released):
        model.config = model.config.model_copy(update=still)
    task.config = task.config.model_copy(update={"cutoffs": (40.0, 40.0)})
    batch["samples"] = 0.1 * torch.randn(batch["samples"].shape, generator=torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(task.model.decoder.head.weight)
    torch.nn.init.zeros_(task.released.decoder.head.weight)
    optimizers = {name: torch.optim.Adam(players, lr=3e-3) for name, players in task.players().items()}
    task.train()
    torch.manual_seed(0)
    before = task.validate([batch]).figures
    for step in range(60):
        totals, _ = task(batch, step)
        for name, optimizer in optimizers.items():
            optimizer.zero_grad()
            totals[name].backward(inputs=task.players()[name], retain_graph=True)
        for optimizer in optimizers.values():
            optimizer.step()
        task.after_step()
    after = task.validate([batch]).figures
    assert before["flutter"] < 0.2
    assert after["flutter"] > before["flutter"] + 0.2
    assert after["flutter_of_medians"] == pytest.approx(before["flutter_of_medians"])


@pytest.fixture
def learned(tmp_path, batch, monkeypatch):
    """A task whose decoders have learned the two voices."""
    monkeypatch.setattr("vcvae.training.learned.adapt", partial(adapt, steps=6))
    torch.manual_seed(0)
    DisentanglingVAE(DisentanglingConfig(**TINY)).save_pretrained(tmp_path)
    config = TextureConfig(
        **WHERE, converter=str(tmp_path), channels=24, blocks=1, segment_frames=40, learned=2, critic_alone=3
    )
    task = TextureTask(config, speakers=2)
    task.begin(iter([batch]))
    return task


def test_decoders_learn_the_voices_of_the_first_speakers(learned, batch):
    _, mel, known, _ = learned.exchange.analyse(batch)
    for i, voice in enumerate(learned.learned):
        heard = [(mel[k : k + 1], known[k : k + 1]) for k in range(i, len(mel), 2)]
        before = [(mel[k : k + 1], known[k : k + 1]) for k in range(1 - i, len(mel), 2)]
        expected = adapt(learned.model, heard, rehearsed=before, steps=6, seed=i).decoder
        expected.texture = None
        assert voice.decoder.state_dict().keys() == expected.state_dict().keys()
        assert all(
            torch.equal(value, expected.state_dict()[name]) for name, value in voice.decoder.state_dict().items()
        )
        assert not torch.equal(voice.decoder.head.weight, learned.model.decoder.head.weight)
        assert voice.latent.norm() == pytest.approx(1)
        assert torch.equal(voice.known, heard[0][1])


def test_conversions_are_to_voices_that_decoders_have_learned(learned, batch):
    """Each in its register, by its own decoder, and each told to the critic as itself."""
    _, mel, _, _ = learned.exchange.analyse(batch)
    content, pitch = learned.model.content(mel).mean, learned.model.pitch(mel)
    registers = torch.full((len(mel),), 7.0)
    for k, voice in enumerate(learned.learned):
        voice.register.fill_(7.2 + k)
    medians, latents, known = learned._as_learned(content, pitch, registers, 40)
    for i in range(len(mel)):
        voice = next(v for v in learned.learned if torch.equal(v.latent[0], latents[i]))
        alone = voice.median(content[i : i + 1], pitch[i : i + 1], registers[i : i + 1], frames=40)
        torch.testing.assert_close(medians.mel[i], alone.mel[0])
        torch.testing.assert_close(medians.features[i], alone.features[0])
        assert torch.equal(known[i], voice.known[0])
        timbre = learned.exchange.others(learned.model.timbre(mel, content))[:1]
        moved = pitch[i : i + 1].shift(voice.register - 7.0)
        exemplars = Timbre(voice.latent, voice.said, voice.sound, torch.ones_like(voice.said[..., :1]))
        torch.testing.assert_close(alone.mel, voice.decoder(content[i : i + 1], exemplars, moved, frames=40))
        assert not torch.allclose(alone.mel, learned.model.decoder(content[i : i + 1], timbre, moved, frames=40))
    assert {tuple(latent.tolist()) for latent in latents} == {tuple(v.latent[0].tolist()) for v in learned.learned}


def test_with_learned_voices_only_the_texture_and_its_critic_learn(learned, batch):
    totals, _ = learned(batch, 3)
    for player, total in totals.items():
        total.backward(inputs=learned.players()[player], retain_graph=True)
    learning = {name for name, p in learned.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("model.decoder.texture.") for name in learning)
    assert all(name.startswith(("model.decoder.texture.", "critic.")) for name in learning)


def test_a_texture_that_is_there_waits_until_its_critic_has_learned(learned, batch):
    assert set(learned(batch, 2)[0]) == {"critic"}
    assert set(learned(batch, 3)[0]) == {"critic", "texture"}


def test_learned_voices_are_kept_with_the_run(learned, batch):
    again = TextureTask(learned.config, speakers=2)
    again.load_state_dict(learned.state_dict())
    learned.eval(), again.eval()
    torch.manual_seed(1)
    first = learned(batch, 3)[1]
    torch.manual_seed(1)
    assert first == again(batch, 3)[1]


def test_a_decoder_says_its_median_with_articulation(task, batch):
    _, mel, _, _ = task.exchange.analyse(batch)
    model = task.model.eval()
    voice, content, pitch = model.voice(mel), model.content(mel).mean, model.pitch(mel)
    moves = model.articulation(mel)
    median = model.decoder.median(content, voice.timbre, pitch, frames=40)
    assert torch.equal(median.mel, model.decoder(content, voice.timbre, pitch, frames=40))
    whole = model.decoder(content, voice.timbre, pitch, frames=40, articulation=moves)
    assert torch.equal(model.decoder.speech(median, moves), whole)
