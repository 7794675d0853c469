import numpy as np
import pytest
import torch

from vcvae.convert.chunks import LoudnessMatch, attenuate_pauses, cross_fade, split_pieces
from vcvae.features.mel import level


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


def test_cross_fade_is_where_the_overlap_is_quietest():
    hop, frames = 256, 40
    mel = torch.zeros(80, frames)
    mel[:, 25] = -10
    joined = cross_fade(np.zeros(frames * hop, np.float32), np.ones(frames * hop + 99, np.float32), mel, hop)
    assert len(joined) == frames * hop + 99
    assert (np.diff(joined) >= 0).all()
    middle = np.searchsorted(joined, 0.5) / hop
    assert abs(middle - 25) < 3


def test_loudness_match_is_over_all_pieces_without_offsets():
    random = np.random.default_rng(0)
    source = random.standard_normal(4000).astype(np.float32) / 10 + 0.3
    converted = random.standard_normal(4000).astype(np.float32) / 40
    loudness = LoudnessMatch()
    loudness.add(source[:1000], converted[:1000])
    loudness.add(source[1000:], converted[1000:])
    assert loudness.gain == pytest.approx(source.std() / converted.std(), rel=1e-4)
    loudness.add(np.zeros(1, np.float32), np.full(1, 0.9, np.float32))
    assert loudness.gain == pytest.approx(0.99 / 0.9)


def test_attenuate_pauses_follows_the_source_there_and_nowhere_else():
    """In a pause the level is the source's if it was higher."""
    generator = torch.Generator().manual_seed(0)
    source_mel = torch.randn(2, 80, 120, generator=generator) - 3
    converted = torch.randn(2, 80, 120, generator=generator) - 3
    source_mel[:, :, 40:80] -= 6
    source_mel[:, :, 100:] -= 2  # quiet, and no pause
    converted[0, :, 40:80] -= 2
    converted[1, :, 40:80] -= 8
    result = attenuate_pauses(converted, source_mel)
    torch.testing.assert_close(result[1], converted[1])
    torch.testing.assert_close(result[0, :, :36], converted[0, :, :36])
    torch.testing.assert_close(result[0, :, 84:], converted[0, :, 84:])

    def pause_level(mel):
        return level(mel[:1, :, 45:75]) - level(mel[:1])

    assert pause_level(converted) > pause_level(source_mel) + 3
    torch.testing.assert_close(pause_level(result), pause_level(source_mel), atol=0.2, rtol=0)
