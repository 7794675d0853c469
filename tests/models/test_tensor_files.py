"""What is read of a safetensors file, whatever its header says."""

import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.properties import QUICK, read_or_refused
from vcvae.errors import VcvaeError
from vcvae.models.conversion.prior import VoicePrior
from vcvae.models.conversion.voice import Voice
from vcvae.models.tensor_files import MAX_AXES, read_tensors, refusing

NUMBERS = st.sampled_from([-1, 0, 1, 3, 2**31, 2**62, 2**64]) | st.integers(0, 200)
JSON = st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=5) | st.lists(NUMBERS, max_size=4)


def parts(path):
    """The header and the tensors' bytes of a file."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header, values):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


@pytest.fixture(scope="module")
def files(tiny_model, tmp_path_factory):
    """Of each reader a good file and its suffix: a voice that learned something, and a prior."""
    from vcvae.features.f0 import F0Statistics
    from vcvae.models.conversion.difference import WeightDifference
    from vcvae.models.conversion.reference import SpeakerReference

    folder = tmp_path_factory.mktemp("tensors")
    reference = SpeakerReference(*(torch.rand(s) for s in ((1, 8), (1, 0), (1, 5, 4), (1, 5, 16))), torch.ones(1, 5, 1))
    learned = WeightDifference({"bias": torch.ones(3)}, {"head": (torch.rand(40, 2), torch.rand(2, 40))})
    f0_statistics = F0Statistics(torch.full((1,), 7.0), torch.full((1,), 0.2))
    Voice(reference, f0_statistics, torch.ones(1, 80), learned, "0" * 16).save(folder / "a.voice")
    embeddings = torch.nn.functional.normalize(torch.randn(6, 8), dim=1)
    VoicePrior.fit(embeddings, F0Statistics(torch.rand(6) + 7, torch.rand(6) + 0.1), "0" * 16).save(folder / "a.prior")
    return {Voice.load: folder / "a.voice", VoicePrior.load: folder / "a.prior"}


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("reader", ["Voice", "VoicePrior"])
def test_readers_refuse_whatever_the_header_says(files, tmp_path, reader, data):
    read = {"Voice": Voice.load, "VoicePrior": VoicePrior.load}[reader]
    header, values = parts(files[read])
    name = data.draw(st.sampled_from(sorted(header)))
    if name == "__metadata__":
        header[name] = data.draw(JSON | st.fixed_dictionaries({key: JSON for key in header[name]}))
    else:
        key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        types = st.sampled_from(["F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I8", "U8", "BOOL", "C64"])
        header[name][key] = data.draw(types | JSON if key == "dtype" else JSON)
    read_or_refused(read, tmp_path / "spoiled", joined(header, values))


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("reader", ["Voice", "VoicePrior"])
def test_readers_refuse_whatever_the_tensors(files, tmp_path, reader, data):
    read = {"Voice": Voice.load, "VoicePrior": VoicePrior.load}[reader]
    with refusing(files[read], of="", advice=""):
        tensors, metadata = read_tensors(files[read])
    name = data.draw(st.sampled_from(sorted(tensors)))
    shape = data.draw(st.lists(st.integers(0, 9), max_size=4))
    value = data.draw(st.sampled_from([0, 1, -1, 6e4, float("nan"), float("inf")]))
    dtype = data.draw(
        st.sampled_from([tensors[name].dtype, torch.float32, torch.float64, torch.int64, torch.complex64])
    )
    spoiled = torch.full(shape if data.draw(st.booleans()) else tensors[name].shape, value)
    spoiled = spoiled if dtype.is_floating_point else spoiled.nan_to_num()
    save_file(tensors | {name: spoiled.to(dtype)}, tmp_path / "made", metadata)
    result = read_or_refused(read, tmp_path / "spoiled", (tmp_path / "made").read_bytes())
    if reader == "VoicePrior" and result is not None:
        assert result.sample(4).embeddings.isfinite().all()


def test_tensors_are_counted_before_any_is_read(tmp_path):
    """The file says that it holds 4 GB, as a sparse file does that takes no room on the disk."""
    size = 2**32
    text = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with open(tmp_path / "a.voice", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)
    with pytest.raises(VcvaeError, match=r"a\.voice: not a voice .*4,294,967,296 values, more than"):
        Voice.load(tmp_path / "a.voice")


def test_tensors_of_many_axes_are_refused(tmp_path):
    save_file({"a": torch.ones([1] * (MAX_AXES + 1))}, tmp_path / "a")
    with (
        pytest.raises(VcvaeError, match=r"a: not a test \('a' has 9 axes\); stop\."),
        refusing(tmp_path / "a", of="a test", advice="stop"),
    ):
        read_tensors(tmp_path / "a")
