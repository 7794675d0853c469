import json
import shutil
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.properties import QUICK, read_or_refused
from vcvae.errors import VcvaeError
from vcvae.models import load_model
from vcvae.models.hub import CONFIG, WEIGHTS, check_weights, read_checkpoint

NAME = "content.head.weight"  # (8, 16) in the smallest model


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the smallest model, to damage."""
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x: None, rf"'{NAME}' is absent here and \(8, 16\) by config\.json"),
        (lambda x: x.reshape(-1), rf"'{NAME}' is \(128,\) here"),
        (lambda x: x[:, :0], rf"'{NAME}' is \(8, 0\) here"),
        (lambda x: x.double() * torch.nan, rf"'{NAME}' holds NaN or infinite values"),
        (lambda x: x.masked_fill(x == x.max(), torch.inf), rf"'{NAME}' holds NaN or infinite values"),
        (lambda x: x.to(torch.complex64), rf"'{NAME}' is of torch\.complex64, not torch\.float32"),
        (lambda x: x.to(torch.int8), rf"'{NAME}' is of torch\.int8, not torch\.float32"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, damage, message):
    weights = load_file(folder / WEIGHTS)
    damaged = damage(weights.pop(NAME))
    save_file(weights if damaged is None else weights | {NAME: damaged.contiguous()}, folder / WEIGHTS)
    with pytest.raises(VcvaeError, match=rf"model\.safetensors: {message}"):
        load_model(folder)


def test_weights_are_compared_before_the_network_takes_memory(folder, monkeypatch):
    """These sizes are within their ranges; together they would take 17 GB."""
    values = json.loads((folder / CONFIG).read_text())
    values |= {"slow_channels": 1024, "kernel": 63, "decoder_slow_blocks": 64}
    (folder / CONFIG).write_text(json.dumps(values))
    with pytest.raises(VcvaeError, match=r"model\.safetensors: '.*' is .* here and .* by config\.json"):
        load_model(folder)


def test_loading_leaves_the_random_state_as_it_was(folder):
    before = torch.random.get_rng_state()
    load_model(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


@QUICK
@given(st.data())
def test_load_model_refuses_whatever_the_configuration(tiny_model, tmp_path, data):
    folder = tmp_path / "model"
    if not folder.exists():
        shutil.copytree(tiny_model, folder)
    values = json.loads((tiny_model / CONFIG).read_text())
    name = data.draw(st.sampled_from(sorted(values)))
    values[name] = data.draw(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(0, 9))
    )
    # A number that another model could have is refused by the weights, which do not fit.
    read_or_refused(lambda _: load_model(folder), folder / CONFIG, json.dumps(values).encode(), named=folder)


@QUICK
@given(cut=st.floats(0, 1), at=st.floats(0, 1), noise=st.binary(max_size=20))
def test_load_model_refuses_whatever_the_weights(tiny_model, tmp_path, cut, at, noise):
    folder = tmp_path / "model"
    if not folder.exists():
        shutil.copytree(tiny_model, folder)
    whole = (tiny_model / WEIGHTS).read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8
    place = int(at * header)
    damaged = whole[:place] + noise + whole[place + len(noise) :]
    read_or_refused(lambda _: load_model(folder), folder / WEIGHTS, damaged[: int(cut * len(damaged))])


def test_read_checkpoint_refuses_a_compressed_archive(tmp_path):
    """It could unpack to any size; torch.save compresses nothing."""
    torch.save({"w": torch.zeros(1000)}, tmp_path / "stored.pt")
    assert read_checkpoint(tmp_path / "stored.pt", of="a test").keys() == {"w"}
    with zipfile.ZipFile(tmp_path / "stored.pt") as stored, zipfile.ZipFile(tmp_path / "packed.pt", "w") as packed:
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(VcvaeError, match=r"packed\.pt: not a test"):
        read_checkpoint(tmp_path / "packed.pt", of="a test")


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.to_sparse(),
        lambda x: x.to("meta"),
        lambda x: x.to(torch.float8_e4m3fn),
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
        lambda x: torch.nested.nested_tensor([x[0], x[1, :2]]),
        lambda x: torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (2**40,)),
    ],
    ids=["sparse", "meta", "float8", "quantized", "nested", "sparse and huge"],
)
@pytest.mark.filterwarnings("ignore")  # torch warns of these kinds
def test_tensors_of_other_kinds_are_refused(tmp_path, change):
    weights = {"w": change(torch.ones(8, 16))}
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(VcvaeError, match=r"a\.pt: not a test"):
        read_checkpoint(tmp_path / "a.pt", of="a test")
    with pytest.raises(VcvaeError, match="'w' is no plain tensor"):
        check_weights(weights, {"w": torch.ones(8, 16)}, path=tmp_path / "a.pt", config="a test")


def test_strided_tensors_of_one_number_are_read_without_memory_for_all(tmp_path):
    torch.save({"w": torch.zeros(1).expand(2**40)}, tmp_path / "a.pt")
    weights = read_checkpoint(tmp_path / "a.pt", of="a test")
    with pytest.raises(VcvaeError, match=r"'w' is \(1099511627776,\) here and \(8,\) by a test"):
        check_weights(weights, {"w": torch.ones(8)}, path=tmp_path / "a.pt", config="a test")
