import re

import pytest
import torch
import yaml

from vcvae.cli.describe import describe
from vcvae.errors import VcvaeError
from vcvae.models import load_model
from vcvae.models.frozen.speaker_similarity import SpeakerSimilarityNet
from vcvae.pretrained import CONVERSION, SPEAKER_SIMILARITY, VOCODER
from vcvae.training import checkpoint
from vcvae.training.run_folder import FIGURES


def test_info_describes_the_released_model(vcvae):
    code, out, err = vcvae("info")
    assert (code, err) == (0, "")
    model = load_model()
    assert "class: DisentanglingVAE\n" in out

    def stored(part):
        return sum(x.numel() for x in part.state_dict().values())

    assert re.search(rf"^parameters: {stored(model) / 1e6:.2f} M, (I8, F16|F16, I8), ", out, re.M)
    for part in ("content", "speaker", "f0", "decoder"):
        assert f"\n  {part}: {stored(getattr(model, part)) / 1e6:.2f} M\n" in out
    assert "content_latent 128" in out
    assert "mel: sample_rate 22050, " in out
    assert "card: vcvae: the released conversion model\n" in out


def test_describe_counts_int8_weights_and_not_their_scales():
    weights = sum(x.numel() for x in SpeakerSimilarityNet.from_pretrained(SPEAKER_SIMILARITY).state_dict().values())
    described = dict(describe(SPEAKER_SIMILARITY))
    assert described["parameters"].startswith(f"{weights / 1e6:.2f} M, ")


def test_describe_lists_sizes_within_sizes():
    described = dict(describe(VOCODER))
    assert (
        "hop 128, ground_truth (gain_smoothing 1, gain_iterations 0, griffin_lim_iterations 8), predicted ("
        in described["sizes"]
    )


def test_describe_a_run(tmp_path):
    config = {
        "task": "vae",
        "output": "run",
        "steps": 9000,
        "data": {"train": "there", "dev": "here"},
        "best_by": "lowest reconstruction_l1",
    }
    state = {
        "task": {"w": torch.zeros(3)},
        "optimizers": {},
        "step": 1500,
        "examples": 12000,
        "voices": 2,
        "corpus": "2 speakers, 0.1 h",
        "config": yaml.safe_dump(config),
        "validation": {"step": 1000, "figures": {"reconstruction_l1": 0.5}},
    }
    (tmp_path / "config.yaml").write_text("task: vae")
    assert describe(tmp_path) == [("run", f"{tmp_path}: started, without a checkpoint yet")]
    checkpoint.save(tmp_path, state)
    checkpoint.save_best(tmp_path, state, keep=1, by="lowest reconstruction_l1")
    (tmp_path / FIGURES).write_text(
        '{"step": 950, "group": "train", "nll": 1.0}\n'
        '{"step": 1000, "group": "train", "nll": 0.5}\n'
        '{"step": 1000, "group": "dev", "reconstruction_l1": 0.25}\n'
    )
    assert dict(describe(tmp_path)) == {
        "run of": "vae",
        "step": "1,500 of 9,000",
        "examples": "12,000",
        "data": "2 speakers, 0.1 h (there)",
        "last training": "step 1,000: nll 0.5",
        "last validation": "step 1,000: reconstruction_l1 0.25",
        "best": "step-00001500.pt (lowest reconstruction_l1)",
    }


def test_describe_refuses_what_is_neither_in_one_sentence(tmp_path):
    with pytest.raises(VcvaeError, match=r"no config\.json in this folder"):
        describe(tmp_path)
    (tmp_path / "config.json").write_text((CONVERSION / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(VcvaeError, match="not weights in safetensors' format"):
        describe(tmp_path)
