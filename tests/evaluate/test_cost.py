import pytest
import soundfile as sf

from tests.synthetic import RATE, speak
from vcvae import Converter, pretrained
from vcvae.errors import VcvaeError
from vcvae.evaluate import Case, measure_cost
from vcvae.evaluate.cost import shipped_bytes


@pytest.mark.slow  # two processes
def test_cost_is_of_one_command_and_of_a_warm_converter(tiny_model, tmp_path):
    for name, f0 in (("source", 110), ("target", 210)):
        sf.write(tmp_path / f"{name}.wav", speak("aisoeau", f0=f0, seconds=1.5), RATE)
    case = Case("1", tmp_path / "source.wav", (tmp_path / "target.wav",))
    converter = Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu")
    options = ["--model", str(tiny_model), "--vocoder", "griffin-lim", "--device", "cpu"]
    cost = measure_cost(converter, case, options=options, quick=True)
    assert 0.1 < cost.seconds < 300
    assert 50 < cost.peak_megabytes < 5000
    assert 0 < cost.real_time_factor < cost.seconds
    assert len(cost.rows()) == 5
    with pytest.raises(VcvaeError, match=r"--cost: 'vcvae convert' failed on .*source\.wav: .*nowhere"):
        measure_cost(converter, case, options=["--model", "nowhere"], quick=True)


def test_shipped_bytes_are_those_of_weights_and_sentences():
    weights = sum(path.stat().st_size for path in pretrained.CONVERSION.parent.rglob("*.safetensors"))
    sentences = sum(path.stat().st_size for path in pretrained.SENTENCES.glob("*.ogg"))
    assert weights + sentences < shipped_bytes() < 1.01 * (weights + sentences)
