import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import QUICK, read_or_refused
from vcvae.array_files import MAX_BYTES, map_npy, read_npz, write_npy
from vcvae.errors import VcvaeError

MEL = np.arange(80, dtype=np.float32).reshape(8, 10)


def header(shape, dtype="<f4"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize("array", [MEL, np.asfortranarray(MEL), MEL.astype(">f8"), MEL.astype(np.int16)])
def test_map_npy_and_read_npz_read_what_numpy_wrote(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", mel=array, other=MEL)
    assert np.array_equal(map_npy(tmp_path / "a.npy"), array)
    arrays = read_npz(tmp_path / "a.npz", {"mel": (2, "fi"), "absent": (2, "f")}, of="a test")
    assert arrays.keys() == {"mel"}
    assert np.array_equal(arrays["mel"], array)


@pytest.mark.parametrize(
    "data",
    [header((80, 99_999_999_999)), header((80, -4)), header((8, 11)) + MEL.tobytes(), b"", b"null", b"\x93NUMPY" * 9],
)
def test_map_npy_refuses_a_header_that_the_file_does_not_keep(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(VcvaeError, match=r"a\.npy: "):
        map_npy(tmp_path / "a.npy")


def test_map_npy_refuses_objects_archives_and_what_is_too_large(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", MEL)
    with open(tmp_path / "large.npy", "wb") as file:  # sparse: it takes no space
        file.write(header((1, MAX_BYTES // 4 + 1)))
        file.truncate(file.tell() + MAX_BYTES + 4)
    for name, message in (("objects.npy", "cannot be read"), ("archive.npz", "an archive"), ("large.npy", "split it")):
        with pytest.raises(VcvaeError, match=message):
            map_npy(tmp_path / name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header((8, 10**9)) + MEL.tobytes(), "its header says 32,000,000,000"),
        (header((8, 9)) + MEL.tobytes(), "its header says 288"),
        (header((80,)) + MEL.tobytes(), r"holds float32 \(80,\)"),
        (header((8, 10), "<c8") + MEL.tobytes(), "holds complex64"),
        (header((1,), "|O") + b"x", "holds object"),
        (b"text", "magic"),
    ],
)
def test_read_npz_refuses_an_array_by_its_header(tmp_path, data, message):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mel.npy", data)
    with pytest.raises(VcvaeError, match=rf"a\.npz: not a test \(.*{message}"):
        read_npz(tmp_path / "a.npz", {"mel": (2, "f")}, of="a test")


@QUICK
@given(st.integers(0, 200), st.binary(max_size=10))
def test_readers_return_arrays_or_refuse_whatever_the_bytes(tmp_path, place, noise):
    np.save(tmp_path / "whole.npy", MEL)
    np.savez(tmp_path / "whole.npz", mel=MEL)
    for name, read in (("npy", map_npy), ("npz", lambda path: read_npz(path, {"mel": (2, "f")}, of="a test"))):
        whole = (tmp_path / f"whole.{name}").read_bytes()
        read_or_refused(read, tmp_path / f"a.{name}", whole[:place] + noise + whole[place + len(noise) :])


@pytest.mark.parametrize("sizes", [[5], [3, 1, 700], [1] * 20])
def test_write_npy_appends_frames(tmp_path, sizes):
    values = np.random.default_rng(0).standard_normal((4, sum(sizes))).astype(np.float32)
    shape = write_npy(tmp_path / "a.npy", np.split(values, np.cumsum(sizes)[:-1], axis=1))
    assert shape == values.shape
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)
    np.testing.assert_array_equal(map_npy(tmp_path / "a.npy"), values)


def test_write_npy_of_a_vector(tmp_path):
    assert write_npy(tmp_path / "a.npy", [np.arange(3.0)]) == (3,)
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_write_npy_leaves_nothing_after_an_error(tmp_path):
    def pieces():
        yield np.zeros((2, 3), np.float32)
        raise VcvaeError("damaged")

    with pytest.raises(VcvaeError, match="damaged"):
        write_npy(tmp_path / "a.npy", pieces())
    assert not list(tmp_path.iterdir())
