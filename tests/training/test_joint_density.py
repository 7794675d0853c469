import re

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from tests.synthetic import speak
from vcvae.errors import VcvaeError
from vcvae.features.f0 import yin
from vcvae.training import joint_density
from vcvae.training.joint_density import JointDensityConfig, fit


@pytest.fixture(scope="module")
def speakers(tmp_path_factory):
    """Ten sentences by a speaker with low F0 and a long vocal tract, and by one with high F0 and other durations."""
    root = tmp_path_factory.mktemp("parallel")
    for name, voice in {"low": {"f0": 110}, "high": {"f0": 165, "tract": 1.2}}.items():
        (root / name).mkdir()
        for i in range(10):
            words = "".join(np.random.default_rng(i).permutation(list("aeiousf")))
            seconds = 1.4 + 0.2 * (name == "high") * (i % 3)
            sf.write(root / name / f"s{i}.wav", speak(words, seconds=seconds, seed=i, **voice), 22050)
    return root


def config(speakers, **changes):
    values = {
        "output": str(speakers / "model"),
        "source": str(speakers / "low"),
        "target": str(speakers / "high"),
        "model": {"components": 8},
        "held_out": 0.2,
    }
    return JointDensityConfig.parse(values | changes, context="test")


@pytest.fixture(scope="module")
def report(speakers):
    return fit(config(speakers))


def test_fit_lowers_the_distortion_of_held_out_sentences_by_a_decibel(report):
    assert (report.sentences, report.held_out) == (8, 2)
    assert report.octaves == pytest.approx(0.58, abs=0.005)
    assert report.before - report.after > 1


def test_vcvae_convert_accepts_the_fitted_model(report, speakers, tmp_path, vcvae):
    source, output = speakers / "low" / "s9.wav", tmp_path / "out.wav"
    arguments = ("convert", source, "--model", speakers / "model", "--vocoder", "griffin-lim", "-o", output)
    assert vcvae(*arguments)[0] == 0
    samples, rate = sf.read(output, dtype="float32")
    assert (len(samples), rate) == (sf.info(source).frames, 22050)
    statistics = [
        yin(torch.from_numpy(x)[None], sample_rate=rate, hop=256).statistics().mean.item()
        for x in (samples, sf.read(source, dtype="float32")[0])
    ]
    assert statistics[0] - statistics[1] == pytest.approx(np.log2(1.5), abs=0.15)
    code, _, err = vcvae(*arguments, "--target", source, "--force")
    assert code == 2
    assert "has its own target speaker" in err


def test_fit_of_folders_without_common_names_is_an_error(speakers, tmp_path):
    (tmp_path / "other").mkdir()
    sf.write(tmp_path / "other" / "elsewhere.wav", speak("aiu"), 22050)
    for folder in (tmp_path / "other", tmp_path / "nowhere"):
        with pytest.raises(VcvaeError, match=re.escape(str(folder))):
            fit(config(speakers, target=str(folder)))


def test_fit_refuses_what_is_too_long_to_be_aligned_and_bounds_the_whole(speakers, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(joint_density, "MAX_MINUTES", 5 / 60)
    report = fit(config(speakers, output=str(tmp_path / "model")))
    assert 2 < report.sentences + report.held_out < 10
    assert "sentences are used" in caplog.text
    monkeypatch.setattr(joint_density, "MAX_ALIGNED_SECONDS", 0.3)
    with pytest.raises(VcvaeError, match=r"\.wav: longer than 0\.3 s"):
        fit(config(speakers))


def test_vcvae_fit_prints_what_it_was_fitted_to(speakers, tmp_path, vcvae):
    (tmp_path / "pair.yaml").write_text(yaml.safe_dump(config(speakers).model_dump(mode="json")))
    code, out, err = vcvae("fit", tmp_path / "pair.yaml", "--set", f"output={tmp_path}/model", "--set", "held_out=0")
    assert (code, err) == (0, "")
    assert out == f"{tmp_path}/model: fitted to 10 sentences, +0.58 octaves\n"
    code, out, err = vcvae("fit", tmp_path / "pair.yaml", "--set", "task=gmm_conversion")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "unknown key 'task'" in err
