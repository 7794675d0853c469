"""Stopping a training by a signal: the request, and the exception that reports it."""

from __future__ import annotations

import signal
import time


class Stopped(KeyboardInterrupt):
    """Training was stopped by a signal after saving a checkpoint; callers must not go on as if it had finished."""


class StopRequest:
    """Turns Ctrl-C or SIGTERM into a request to stop after the current step; a second Ctrl-C interrupts at once.

    Launchers forward signals, so one may arrive twice: those within `SAME_SIGNAL_SECONDS` count as one.
    """

    SAME_SIGNAL_SECONDS = 2.0

    def __enter__(self) -> StopRequest:
        self.requested_at = None
        self.previous_handlers = {s: signal.signal(s, self._request) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.requested_at is not None

    def _request(self, number: int, _frame) -> None:
        now = time.monotonic()
        if self.requested and number == signal.SIGINT and now - self.requested_at > self.SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt
        self.requested_at = self.requested_at or now

    def __exit__(self, *_exc) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
