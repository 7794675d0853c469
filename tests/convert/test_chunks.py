import numpy as np
import pytest

from vcvae.convert import chunks
from vcvae.convert.chunks import cross_fade, cut_pieces, process_pieces, split_pieces


@pytest.mark.parametrize("sizes", [[1000], [100] * 10, [999, 1], [1] * 1000, [640, 360]])
def test_split_pieces_covers_everything(sizes):
    samples = np.arange(1000, dtype=np.float32)
    blocks = np.split(samples, np.cumsum(sizes)[:-1])
    pieces = list(split_pieces(iter(blocks), 200, 50))
    assert [is_last for _, is_last in pieces] == [False] * (len(pieces) - 1) + [True]
    for k, (piece, is_last) in enumerate(pieces):
        assert piece[0] == 200 * k
        assert is_last or len(piece) == 250
    assert 50 <= len(pieces[-1][0]) < 450
    assert pieces[-1][0][-1] == 999


@pytest.mark.parametrize("size", [7, 250, 449, 450, 1000])
def test_cut_pieces_restores_what_was_split(size):
    values = np.arange(2 * size).reshape(2, size)
    pieces = cut_pieces(split_pieces([values], 200, 50), 200, 50)
    np.testing.assert_array_equal(np.concatenate(list(pieces), axis=1), values)


def test_cross_fade_is_where_the_overlap_is_quietest():
    hop, frames = 256, 40
    loudness = np.ones(frames * hop, np.float32)
    loudness[24 * hop : 27 * hop] = 0.01
    joined = cross_fade(0 * loudness, np.concatenate([loudness, np.ones(99, np.float32)]), hop)
    assert len(joined) == frames * hop + 99
    assert (joined[: 24 * hop] == 0).all()
    assert (joined[27 * hop :] == 1).all()


@pytest.mark.parametrize("size", [100, 30_000, 120_000])
def test_process_pieces_of_the_identity_is_the_identity(size, monkeypatch):
    monkeypatch.setattr(chunks, "PIECE_FRAMES", 256)
    samples = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    lengths = []

    def identity(piece):
        lengths.append(len(piece))
        return piece

    pieces = list(process_pieces(np.array_split(samples, 9), identity, hop=64))
    np.testing.assert_allclose(np.concatenate(pieces), samples, atol=1e-6)
    assert max(lengths) < 2 * 256 * 64 + 176 * 64
