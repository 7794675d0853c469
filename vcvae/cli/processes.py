"""The processes that a launcher starts for one command, on one machine or several: who does what, and who reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import typer

from vcvae.environment import find_device, launched_processes
from vcvae.errors import VcvaeError

WAIT_LIMIT = timedelta(days=30)  # for the other processes

Result = TypeVar("Result")


class Processes:
    """The processes of `accelerate launch -m vcvae …`; without a launcher, this one alone.

    A context manager: at its end the process group is closed.
    """

    def __init__(self, device: str) -> None:
        """
        Args:
            device: that the command computes on.
        """
        self.count, self.index, self._state = 1, 0, None
        if launched_processes() > 1:
            from accelerate import PartialState

            self._state = PartialState(cpu=find_device(device).type == "cpu", timeout=WAIT_LIMIT)
            self.count, self.index = self._state.num_processes, self._state.process_index

    @property
    def is_first(self) -> bool:
        """Whether this process reads, prints and reports for all."""
        return self.index == 0

    def from_first(self, function: Callable[[], Result]) -> Result:
        """What the function gives in the first process, in all of them.

        Raises:
            VcvaeError: it raised that, in the first process.
            typer.Exit: the same, in the others.
        """
        if self._state is None:
            return function()
        from accelerate.utils import broadcast_object_list

        values: list[Any] = [None]
        if self.is_first:
            try:
                values = [function()]
            except VcvaeError as error:
                values = [error]
        broadcast_object_list(values)
        if isinstance(values[0], VcvaeError):
            raise values[0] if self.is_first else typer.Exit(2)
        return values[0]

    def gather(self, value: Result) -> list[Result]:
        """The values of all processes, in each of them."""
        if self._state is None:
            return [value]
        from accelerate.utils import gather_object

        return gather_object([value])

    def share(self, groups: Sequence[list[Result]]) -> list[Result]:
        """The items of those groups that this process has to do; the processes get about as many items each."""
        return [item for group in sorted(groups, key=len, reverse=True)[self.index :: self.count] for item in group]

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._state is not None:
            self._state.destroy_process_group()
