"""Samples of every type, order and layout that NumPy and torch have are those of the same float32 array."""

import numpy as np
import pytest
import torch

from vcvae.arrays import as_samples, is_samples
from vcvae.errors import VcvaeError

SINE = 0.5 * np.sin(np.arange(5000) / 20)


def full_scale(dtype):
    limit = 2.0 ** (8 * np.dtype(dtype).itemsize - 1)
    shifted = SINE * limit + (limit if np.dtype(dtype).kind == "u" else 0)
    return np.clip(shifted, np.iinfo(dtype).min, limit * 1.99).astype(dtype)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", ">f4", ">f8", "<f8"])
def test_as_samples_takes_any_floating_point_type(dtype):
    samples = as_samples(SINE.astype(dtype))
    assert samples.dtype == np.float32
    assert samples.dtype.isnative
    np.testing.assert_allclose(samples, SINE, atol=5e-4 if dtype == "f2" else 1e-7)


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "u2", "i4", ">i4", "u4", "i8", "u8"])
def test_as_samples_scales_integers_by_their_width(dtype):
    np.testing.assert_allclose(as_samples(full_scale(dtype)), SINE, atol=2**-6 if dtype[-1] == "1" else 1e-4)


@pytest.mark.parametrize("dtype", ["i4", "i8"])
def test_as_samples_takes_small_integers_of_a_wide_type_for_16_bits(dtype):
    np.testing.assert_array_equal(as_samples(full_scale("i2").astype(dtype)), as_samples(full_scale("i2")))
    np.testing.assert_array_equal(as_samples(full_scale("i2").tolist()), as_samples(full_scale("i2")))


@pytest.mark.parametrize("peak", [1.5, 1e6, 1e300])
def test_as_samples_scales_down_what_exceeds_full_scale(peak):
    np.testing.assert_allclose(as_samples(SINE * 2 * peak), 2 * SINE, atol=1e-6)


def test_as_samples_takes_lists_tensors_and_views():
    expected = SINE.astype(np.float32)
    stereo = np.stack([expected, expected], axis=1)
    read_only = expected.copy()
    read_only.flags.writeable = False
    for same in (expected.tolist(), tuple(expected), stereo[:, 0], expected[::-1][::-1], read_only):
        np.testing.assert_array_equal(as_samples(same), expected)
    tensor = torch.from_numpy(expected)
    for same in (tensor, tensor.clone().requires_grad_(), tensor.double(), torch.stack([tensor, tensor], 1)[:, 1]):
        np.testing.assert_array_equal(as_samples(same), expected)
    np.testing.assert_allclose(as_samples(tensor.bfloat16()), expected, atol=4e-3)
    np.testing.assert_array_equal(as_samples((tensor * 2**15).short()), as_samples((expected * 2**15).astype("i2")))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 100)),
        np.float32(1),
        [],
        ["a", "b"],
        [[1, 2], [3]],
        np.array([1j, 2]),
        np.array([True, False]),
        np.array([None, 1.0]),
        np.array(["2024-01-01"], dtype="M8[D]"),
        np.zeros(3, dtype=[("left", "f4"), ("right", "f4")]),
        np.array([0.1, np.nan]),
        np.array([0.1, -np.inf]),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3, device="meta"),
        torch.zeros(3).to_sparse(),
        None,
        {"samples": [0.1]},
    ],
)
def test_as_samples_refuses_in_one_sentence(values):
    with pytest.raises(VcvaeError, match=r"^an? [^\n]*\.$"):
        as_samples(values)


def test_is_samples_tells_one_recording_from_several(tmp_path):
    for one in (SINE, torch.from_numpy(SINE), SINE.tolist(), (0, 1), [np.float32(0.5)]):
        assert is_samples(one)
    for other in ("a.wav", tmp_path, ["a.wav"], [SINE], (tmp_path,), [SINE.tolist()], [], None, b"a.wav"):
        assert not is_samples(other)
