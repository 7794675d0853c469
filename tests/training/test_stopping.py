import signal

import pytest

from vcvae.training.stopping import StopRequest


def test_stop_request_counts_a_repeated_signal_once_and_obeys_a_second_ctrl_c(monkeypatch):
    with StopRequest() as stop:
        assert not stop.requested
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):  # from a launcher, and from the process group
            signal.raise_signal(number)
        assert stop.requested
        monkeypatch.setattr(StopRequest, "SAME_SIGNAL_SECONDS", 0.0)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
