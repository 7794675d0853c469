import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import QUICK, read_or_refused
from tests.synthetic import RATE, speak
from vcvae.convert import chunks
from vcvae.convert import codec as codes
from vcvae.errors import VcvaeError
from vcvae.models.classic.autoencoder import VAE, AutoEncoder, AutoEncoderConfig


def make(kind=AutoEncoder, seed=0):
    torch.manual_seed(seed)
    return kind(AutoEncoderConfig(latent=6, channels=16, blocks=1)).eval()


@pytest.mark.parametrize("kind", [AutoEncoder, VAE])
@pytest.mark.parametrize(("bits", "tolerance"), [(16, 1e-3), (8, 0.5 / 255 + 1e-4)])
def test_write_and_read_restore_the_code(tmp_path, kind, bits, tolerance):
    model, mel = make(kind), torch.randn(80, 101)
    made = codes.encode(model, mel)
    codes.write(tmp_path / "a.npz", made, bits=bits)
    again = codes.read(tmp_path / "a.npz")
    assert again.frames == 101
    spread = made.values.max(axis=1, keepdims=True) - made.values.min(axis=1, keepdims=True)
    assert (np.abs(again.values - made.values) <= tolerance * np.maximum(spread, np.abs(made.values)) + 1e-6).all()
    copy = codes.decode(model, again)
    assert copy.shape == mel.shape
    torch.testing.assert_close(copy, model.reconstruct(mel[None])[0], atol=0.1, rtol=0.1)


def test_bits_per_second_counts_every_value():
    made = codes.encode(make(), torch.randn(80, 400))
    assert codes.bits_per_second(made, 8, frame_rate=100.0) == pytest.approx(6 * 25 * 8)


def test_write_in_eight_bits_halves_the_file(tmp_path):
    made = codes.encode(make(), torch.randn(80, 8000))
    codes.write(tmp_path / "8.npz", made, bits=8)
    codes.write(tmp_path / "16.npz", made, bits=16)
    assert (tmp_path / "8.npz").stat().st_size < 0.7 * (tmp_path / "16.npz").stat().st_size


def test_decode_refuses_another_models_code():
    made = codes.encode(make(seed=0), torch.randn(80, 40))
    with pytest.raises(VcvaeError, match="made by another model"):
        codes.decode(make(seed=1), made)


def test_read_and_write_refuse_what_is_no_code(tmp_path):
    made = codes.encode(make(), torch.randn(80, 40))
    with pytest.raises(VcvaeError, match="8 or 16 bits"):
        codes.write(tmp_path / "a.npz", made, bits=4)
    with pytest.raises(VcvaeError, match=r"end the name so"):
        codes.write(tmp_path / "a.wav", made)
    codes.write(tmp_path / "a.npz", made)
    with pytest.raises(VcvaeError, match="--force"):
        codes.write(tmp_path / "a.npz", made)
    with pytest.raises(VcvaeError, match="cannot be read"):
        codes.read(tmp_path / "none.npz")
    (tmp_path / "b.npz").write_bytes(b"nothing")
    with pytest.raises(VcvaeError, match="not a code"):
        codes.read(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", code=np.zeros(3), frames=3, model="x")
    with pytest.raises(VcvaeError, match=r"not a code .*'code.npy' holds float64 \(3,\)"):
        codes.read(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", code=np.zeros((6, 10)), frames=10**9, model=made.fingerprint)
    with pytest.raises(VcvaeError, match=r"the code is \(6, 10\) and should be \(6, 250000000\)"):
        codes.decode(make(), codes.read(tmp_path / "d.npz"))


@pytest.mark.slow
@QUICK
@given(st.integers(0, 1000), st.binary(max_size=8), st.floats(0, 1))
def test_read_returns_a_code_or_refuses_whatever_the_bytes(tmp_path, place, noise, cut):
    if not (tmp_path / "a.npz").exists():
        codes.write(tmp_path / "a.npz", codes.encode(make(), torch.randn(80, 40)))
    whole = (tmp_path / "a.npz").read_bytes()
    place %= len(whole)
    damaged = whole[:place] + noise + whole[place + len(noise) :]
    code = read_or_refused(
        codes.read, tmp_path / "b.npz", damaged if cut > 0.5 else damaged[: int(2 * cut * len(whole))]
    )
    assert code is None or code.values.ndim == 2


def test_a_code_is_refused_that_is_larger_than_what_is_read(tmp_path, monkeypatch):
    model = make()
    sf.write(tmp_path / "a.wav", speak("aisoeu", seconds=2.0), RATE)
    positions = codes.encode_recording(model, tmp_path / "a.wav").values.shape[1]
    size = 4 * model.config.latent
    monkeypatch.setattr(codes, "MAX_BYTES", size * positions)
    assert codes.encode_recording(model, tmp_path / "a.wav").values.shape[1] == positions
    monkeypatch.setattr(codes, "MAX_BYTES", size * (positions - 1))
    with pytest.raises(VcvaeError, match=r"a\.wav: longer than the .* hours that one file"):
        codes.encode_recording(model, tmp_path / "a.wav")


def test_codes_of_long_recordings_are_those_of_their_pieces(tmp_path, monkeypatch):
    model = make()
    samples = speak("aisoeufa uio eisauo", seconds=9.001)
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    whole = codes.encode_recording(model, tmp_path / "a.wav")
    mel = codes.decode(model, whole)
    assert whole.frames == mel.shape[1] == -(-len(samples) // 256)
    monkeypatch.setattr(chunks, "PIECE_FRAMES", 256)
    reports = []
    pieces = codes.encode_recording(model, tmp_path / "a.wav", progress=lambda *report: reports.append(report))
    encoding = [report for report in reports if report[2] == "encoding, seconds"]
    assert encoding == [(second, 9, "encoding, seconds") for second in (0, 2, 5, 8)]
    assert pieces.frames == whole.frames
    np.testing.assert_allclose(pieces.values, whole.values, atol=1e-3)
    reports.clear()
    assert len(list(codes.decode_pieces(model, pieces, progress=lambda *report: reports.append(report)))) == 2
    assert reports == [(second, 9, "decoding, seconds") for second in (0, 2, 5, 8)]
    torch.testing.assert_close(codes.decode(model, whole), mel, atol=1e-3, rtol=0)
