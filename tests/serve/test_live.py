import time

import numpy as np
import pytest

from vcvae.errors import VcvaeError
from vcvae.serve.live import Buffer, LiveConversion, Player


class Delay:
    """A stream that gives its source, a step later; or fails."""

    sample_rate, step, latency = 1000, 0.05, 0.05

    def __init__(self, error=None):
        self.waiting, self.error = np.zeros(0, np.float32), error

    def push(self, samples):
        if self.error:
            raise self.error
        self.waiting = np.concatenate([self.waiting, samples])
        ready = len(self.waiting) // 50 * 50
        out, self.waiting = self.waiting[:ready], self.waiting[ready:]
        return out


def test_buffer_gives_what_it_took_in_order():
    random = np.random.default_rng(0)
    source = random.standard_normal(5000).astype(np.float32)
    buffer, given, start = Buffer(97), [], 0
    while sum(map(len, given)) < len(source):
        size = int(random.integers(0, 60))
        if buffer.write(source[start : start + size]):
            start += len(source[start : start + size])
        out = np.zeros(int(random.integers(0, 60)), np.float32)
        if buffer.read(out):
            given.append(out)
        elif start >= len(source):
            rest = np.zeros(buffer.filled, np.float32)
            assert buffer.read(rest)
            given.append(rest)
    np.testing.assert_array_equal(np.concatenate(given), source)


def test_buffer_refuses_what_finds_no_room_or_is_not_there():
    buffer = Buffer(4)
    assert not buffer.write(np.zeros(5, np.float32))
    assert buffer.write(np.ones(4, np.float32))
    assert not buffer.write(np.ones(1, np.float32))
    out = np.full(5, 7, np.float32)
    assert not buffer.read(out)
    assert (out == 7).all()


def test_player_waits_for_its_reserve_and_counts_what_is_missing():
    player, out = Player(1000, wait=0.1), np.ones(20, np.float32)
    player.buffer.write(np.full(90, 5, np.float32))
    player.play(out)
    assert not out.any()
    assert player.dropped == 0  # it has not begun
    player.buffer.write(np.full(10, 5, np.float32))
    for _ in range(5):
        player.play(out)
        assert (out == 5).all()
    player.play(out)
    assert not out.any()
    assert player.dropped == 1


def test_player_catches_up_after_a_surplus():
    player, out = Player(1000, wait=0.1), np.zeros(20, np.float32)
    player.buffer.write(np.arange(900, dtype=np.float32))
    player.play(out)
    assert player.buffer.filled == 100 - 20
    assert out[0] == 800  # the newest are played


def test_conversion_passes_all_samples_on_and_reports():
    player = Player(1000, wait=0.4)
    conversion = LiveConversion(Delay(), input_rate=1000, players=[player])
    source = np.sin(np.arange(400, dtype=np.float32))
    out, played = np.zeros(20, np.float32), []
    conversion.start()
    for start in range(0, 400, 20):
        conversion.take(source[start : start + 20])
        time.sleep(0.01)
    deadline = time.monotonic() + 10
    while player.buffer.written < 400 and time.monotonic() < deadline:
        time.sleep(0.01)
    for _ in range(20):
        player.play(out)
        played.append(out.copy())
    report = conversion.report()
    conversion.stop()
    np.testing.assert_array_equal(np.concatenate(played), source)
    assert report.source_level == pytest.approx(-3, abs=0.2)
    assert report.converted_level == pytest.approx(-3, abs=0.2)
    assert report.dropped == 0
    assert conversion.latency == 0


def test_conversion_resamples_for_devices_of_other_rates():
    delay = Delay()
    delay.sample_rate = 22050
    player = Player(48000, wait=0.1)
    conversion = LiveConversion(delay, input_rate=44100, players=[player])
    conversion.start()
    for _ in range(20):
        conversion.take(np.zeros(441, np.float32))
        time.sleep(0.005)
    deadline = time.monotonic() + 10
    while player.buffer.written < 7000 and time.monotonic() < deadline:
        time.sleep(0.01)
    conversion.stop()
    assert 7000 <= player.buffer.written <= 9600


def test_conversion_drops_what_it_cannot_keep_up_with():
    conversion = LiveConversion(Delay(), input_rate=1000, players=[Player(1000, wait=0.1)])
    for _ in range(40):  # not started: nothing is taken out
        conversion.take(np.zeros(20, np.float32))
    assert conversion.report().dropped == 25  # .3 s wait, the rest is lost
    assert conversion.report().dropped == 0


def test_conversion_reports_its_error():
    conversion = LiveConversion(Delay(VcvaeError("no.")), input_rate=1000, players=[Player(1000, wait=0.1)])
    conversion.start()
    conversion.take(np.zeros(20, np.float32))
    conversion._thread.join(10)
    with pytest.raises(VcvaeError, match="no"):
        conversion.report()
