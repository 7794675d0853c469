import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.corpus import make_corpus
from tests.training.runs import run
from vcvae import load_model
from vcvae.errors import VcvaeError
from vcvae.training import checkpoint
from vcvae.training.run_folder import load_run
from vcvae.training.tasks.conversion import ConversionTask


def events(folder):
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


@pytest.mark.slow
def test_train_reduces_the_loss_and_writes_figures_mels_and_audio(values, tmp_path):
    torch.manual_seed(0)
    # With so few steps the model learns from reconstruction alone, and from unchanged voices.
    values |= {"weights": {"adversarial": 0.0, "feature_matching": 0.0}, "speeds": [1.0]}
    folder = run(values, steps=40, optimizer={"learning_rate": 0.005, "warmup": 5})
    logged = events(folder)
    losses = [event.value for event in logged.Scalars("train/reconstruction")]
    assert sum(losses[-5:]) / 5 < 0.9 * losses[0]
    assert {"dev/equal_error_rate", "dev/content_similarity", "dev/converted_retrieval"} <= set(
        logged.Tags()["scalars"]
    )
    assert "mel/converted" in logged.Tags()["images"]
    assert "audio/converted" in logged.Tags()["audio"]
    assert (folder / "environment.json").exists()
    _, task = load_run(folder)
    task.released.half().save_pretrained(tmp_path / "model")
    model, mel = load_model(tmp_path / "model"), torch.randn(1, 80, 30)
    torch.testing.assert_close(model.content(mel).mean, task.released.float().content(mel).mean)


def test_accumulate_averages_the_gradients_of_batches(values, tmp_path, monkeypatch):
    """The gradient of two batches of two is that of one batch of four."""

    def forward(task, batch, step):
        total = batch["samples"].square().mean() * sum(p.sum() for p in task.model.parameters())
        return {"model": total}, {}

    monkeypatch.setattr(ConversionTask, "forward", forward)
    norms = []
    for name, sizes in (("whole", (1, 4)), ("parts", (2, 2))):
        folder = run(values, output=str(tmp_path / name), steps=2, accumulate=sizes[0], batch_speakers=sizes[1])
        norms.append([event.value for event in events(folder).Scalars("train/gradient_model")])
    assert norms[0] == pytest.approx(norms[1])
    assert min(norms[0]) > 1e-3


def test_train_ends_when_a_loss_is_not_finite_and_keeps_its_checkpoint(values, monkeypatch):
    folder = run(values, steps=4)
    before = (folder / checkpoint.NAME).read_bytes()
    monkeypatch.setattr("vcvae.training.losses.reconstruction", lambda *_: torch.tensor(torch.nan, requires_grad=True))
    with pytest.raises(VcvaeError, match="not finite at step 4"):
        run(values, steps=6)
    assert (folder / checkpoint.NAME).read_bytes() == before


def test_precision_that_is_not_available_is_an_error(values, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr("torch.accelerator.is_available", lambda: False)
        with pytest.raises(VcvaeError, match="precision: fp16 needs a GPU"):
            run(values, precision="fp16")
    run(values, steps=1)
    with pytest.raises(VcvaeError, match=r"precision: bf16 is not available .* start each run in its own process"):
        run(values, precision="bf16")


def test_train_goes_on_when_a_file_becomes_unreadable(values, tmp_path, caplog):
    corpus = make_corpus(tmp_path / "corpus", speakers=2)
    values |= {"data": {"train": str(corpus), "dev": str(corpus)}}
    run(values, steps=2)
    file = sorted(corpus.parent.glob("audio/**/*.flac"))[-1]
    file.write_bytes(file.read_bytes()[:2000])
    run(values)
    assert checkpoint.load(tmp_path / "run")["step"] == 6
    assert "/".join(file.parts[-3:]) in caplog.text
