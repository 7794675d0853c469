"""How a training is asked to stop, and how it says that it has."""

from __future__ import annotations

import signal
import time


class Stopped(KeyboardInterrupt):
    """Whoever trains was asked to stop, and has saved where it stands: what would come after a training must not."""


class Stop:
    """Turns Ctrl-C or SIGTERM into a request to stop after the step at hand; a second Ctrl-C is obeyed at once.

    Launchers pass on what they are told, so one signal may come twice: what comes within `PATIENCE` is the same.
    """

    PATIENCE = 2.0  # seconds

    def __enter__(self) -> Stop:
        self.since = None
        self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    @property
    def asked(self) -> bool:
        return self.since is not None

    def _ask(self, number: int, _frame) -> None:
        now = time.monotonic()
        if self.asked and number == signal.SIGINT and now - self.since > self.PATIENCE:
            raise KeyboardInterrupt
        self.since = self.since or now

    def __exit__(self, *_exc) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
