"""vcvae vocode, encode, decode and denoise."""

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.synthetic import RATE, speak
from vcvae.models.classic.autoencoder import AutoEncoder, AutoEncoderConfig, DenoisingAutoEncoder


@pytest.fixture(scope="module")
def autoencoders(tmp_path_factory):
    """A folder with an auto-encoder and a denoising one, untrained."""
    folder = tmp_path_factory.mktemp("autoencoders")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for kind in (AutoEncoder, DenoisingAutoEncoder):
            kind(AutoEncoderConfig(latent=4, channels=16, blocks=1)).save_pretrained(folder / kind.__name__)
    return folder


def test_encode_writes_speaker_and_content_latents(vcvae, voices, tiny_model):
    for kind in ("speaker", "content"):
        command = ("encode", kind, voices / "spk.wav", "-o", voices / f"{kind}.npy", "--model", tiny_model)
        code, out, err = vcvae(*command)
        assert (code, err) == (0, "")
        array = np.load(voices / f"{kind}.npy")
        assert array.dtype == np.float32
        assert array.shape == {"speaker": (8,), "content": (4, 48)}[kind]
        assert out == f"{voices / kind}.npy: float32 {array.shape}\n"


def test_vocode_copies_a_recording_and_a_mel(vcvae, voices):
    code, out, _ = vcvae("vocode", voices / "src.wav")
    assert (code, out.strip()) == (0, str(voices / "src.copy.wav"))
    assert sf.info(voices / "src.copy.wav").frames == RATE
    assert vcvae("vocode", voices / "src.wav")[0] == 2  # it exists
    assert vcvae("encode", "mel", voices / "src.wav", "-o", voices / "src.npy")[0] == 0
    assert vcvae("vocode", voices / "src.npy", "-o", voices / "from-mel.flac")[0] == 0
    assert sf.info(voices / "from-mel.flac").frames == -(-RATE // 256) * 256


def test_vocode_copies_a_folder(vcvae, voices):
    (voices / "talks").mkdir()
    (voices / "src.wav").rename(voices / "talks" / "a.wav")
    (voices / "talks" / "b.wav").write_text("no audio")
    code, out, err = vcvae("vocode", voices / "talks", "-o", voices / "copies", "--vocoder", "griffin-lim")
    assert (code, out) == (1, "1 of 2 vocoded\n")
    assert "b.wav" in err.replace("\n", "")
    assert sf.info(voices / "copies" / "a.wav").frames == RATE


@pytest.mark.parametrize(("bits", "rate"), [(16, "1.39"), (8, "0.70")])
def test_decode_synthesizes_a_code(vcvae, voices, autoencoders, bits, rate):
    model = ("--model", autoencoders / "AutoEncoder")
    encode = ("encode", "code", voices / "src.wav", "-o", voices / "a.npz", "--bits", bits, *model)
    code, out, err = vcvae(*encode)
    assert (code, err) == (0, "")
    assert f"4 × 22 values of {bits} bits, {rate}" in out
    decoded = vcvae("decode", voices / "a.npz", "-o", voices / "a.wav", *model, "--vocoder", "griffin-lim")
    assert decoded[0] == 0  # an untrained decoder may exceed full scale, of which it warns
    assert sf.info(voices / "a.wav").frames == pytest.approx(RATE, abs=256)
    assert vcvae(*encode)[0] == 2
    assert vcvae(*encode, "--force")[0] == 0


def test_denoise_a_folder(vcvae, voices, autoencoders):
    (voices / "noisy").mkdir()
    for name in ("a", "b"):
        sf.write(voices / "noisy" / f"{name}.wav", speak("aio", seconds=0.5), RATE)
    (voices / "noisy" / "c.wav").write_bytes(b"nothing")
    model = ("--model", autoencoders / "DenoisingAutoEncoder", "--vocoder", "griffin-lim")
    code, out, err = vcvae("denoise", voices / "noisy", *model)
    assert code == 1
    assert "2 of 3 denoised" in out
    assert "c.wav" in err
    for name in ("a", "b"):
        assert sf.info(voices / "noisy.clean" / f"{name}.wav").frames == RATE // 2


def test_models_of_another_kind_are_refused_in_one_sentence(vcvae, voices, autoencoders):
    source = voices / "src.wav"
    code, _, err = vcvae("denoise", source, "--model", autoencoders / "AutoEncoder")
    assert (code, err.count("\n")) == (2, 1)
    assert "holds AutoEncoder, where one of DenoisingAutoEncoder is needed" in err
    code, _, err = vcvae("encode", "code", source, "-o", voices / "a.npz")
    assert code == 2
    assert "name an auto-encoder" in err
    code, _, err = vcvae("decode", source, "-o", voices / "a.wav", "--model", autoencoders / "AutoEncoder")
    assert code == 2
    assert "not a code" in err
