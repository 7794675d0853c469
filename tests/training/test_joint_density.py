import io
import re

import numpy as np
import pytest
import soundfile as sf
import torch
from rich.console import Console

from tests.synthetic import speak
from vcvae.errors import VcvaeError
from vcvae.features.f0 import yin
from vcvae.training.loop import train
from vcvae.training.tasks import parse


@pytest.fixture(scope="module")
def speakers(tmp_path_factory):
    """A long low voice and a short high one, who say the same ten sentences at their own lr_scale."""
    root = tmp_path_factory.mktemp("parallel")
    for name, voice in {"low": {"f0": 110}, "high": {"f0": 165, "tract": 1.2}}.items():
        (root / name).mkdir()
        for i in range(10):
            words = "".join(np.random.default_rng(i).permutation(list("aeiousf")))
            seconds = 1.4 + 0.2 * (name == "high") * (i % 3)
            sf.write(root / name / f"s{i}.wav", speak(words, seconds=seconds, seed=i, **voice), 22050)
    return root


def values(speakers, **changes):
    return {
        "task": "gmm_conversion",
        "output": str(speakers / "model"),
        "source": str(speakers / "low"),
        "target": str(speakers / "high"),
        "model": {"components": 8},
        "held_out": 0.2,
    } | changes


@pytest.fixture(scope="module")
def report(speakers):
    console = Console(record=True, width=300, file=io.StringIO())
    train(parse(values(speakers), where="test"), console)
    return console.export_text()


def test_unseen_sentences_come_nearer_by_more_than_a_decibel(report):
    assert "8 sentences, +0.58 octaves" in report
    before, after = map(float, re.search(r"2 unseen: ([\d.]+) dB before, ([\d.]+) dB after", report).groups())
    assert before - after > 1


def test_the_command_line_converts_with_it(report, speakers, tmp_path, vcvae):
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
    code, _, err = vcvae(*arguments, "--target", source)
    assert code == 2
    assert "knows its one target" in err


def test_folders_that_do_not_match_are_one_sentence(speakers, tmp_path):
    (tmp_path / "other").mkdir()
    sf.write(tmp_path / "other" / "elsewhere.wav", speak("aiu"), 22050)
    for folder in (tmp_path / "other", tmp_path / "nowhere"):
        with pytest.raises(VcvaeError, match=re.escape(str(folder))):
            train(parse(values(speakers, target=str(folder)), where="test"), Console(quiet=True))
