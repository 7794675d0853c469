"""The commands that auto-encoders add: encode --code, decode, denoise."""

import pytest
import soundfile as sf
import torch

from tests.synthetic import RATE, speak
from vcvae.models.classic.autoencoder import AutoEncoder, AutoEncoderConfig, DenoisingAutoEncoder


@pytest.fixture
def models(tmp_path):
    """A folder with an auto-encoder and a denoising one, untrained."""
    torch.manual_seed(0)
    for kind in (AutoEncoder, DenoisingAutoEncoder):
        kind(AutoEncoderConfig(latent=4, channels=16, blocks=1)).save_pretrained(tmp_path / kind.__name__)
    return tmp_path


@pytest.mark.parametrize(("bits", "rate"), [(16, "1.39"), (8, "0.70")])
def test_speech_is_stored_as_code_and_spoken_again(vcvae, voices, models, bits, rate):
    model = ("--model", models / "AutoEncoder")
    code, out, err = vcvae("encode", voices / "src.wav", "--code", "-o", voices / "a.npz", "--bits", bits, *model)
    assert (code, err) == (0, "")
    assert f"4 × 22 values of {bits} bits, {rate}" in out
    decoded = vcvae("decode", voices / "a.npz", "-o", voices / "a.wav", *model, "--vocoder", "griffin-lim")
    assert decoded[0] == 0  # an untrained decoder may well be over full scale, and is told so
    assert sf.info(voices / "a.wav").frames == pytest.approx(RATE, abs=256)
    again = ("encode", voices / "src.wav", "--code", "-o", voices / "a.npz", *model)
    assert vcvae(*again)[0] == 2
    assert vcvae(*again, "--force")[0] == 0


def test_a_folder_is_denoised_file_by_file(vcvae, voices, models):
    (voices / "noisy").mkdir()
    for name in ("a", "b"):
        sf.write(voices / "noisy" / f"{name}.wav", speak("aio", seconds=0.5), RATE)
    (voices / "noisy" / "c.wav").write_bytes(b"nothing")
    code, out, err = vcvae(
        "denoise", voices / "noisy", "--model", models / "DenoisingAutoEncoder", "--vocoder", "griffin-lim"
    )
    assert code == 1
    assert "2 of 3 denoised" in out
    assert "c.wav" in err
    for name in ("a", "b"):
        assert sf.info(voices / "noisy.clean" / f"{name}.wav").frames == RATE // 2


def test_models_that_cannot_do_it_are_one_sentence(vcvae, voices, models):
    source = voices / "src.wav"
    code, _, err = vcvae("denoise", source, "--model", models / "AutoEncoder")
    assert (code, err.count("\n")) == (2, 1)
    assert "holds AutoEncoder, where one of DenoisingAutoEncoder is needed" in err
    code, _, err = vcvae("encode", source, "--code", "-o", voices / "a.npz")
    assert code == 2
    assert "name an auto-encoder" in err
    code, _, err = vcvae("decode", source, "-o", voices / "a.wav", "--model", models / "AutoEncoder")
    assert code == 2
    assert "not a code" in err
