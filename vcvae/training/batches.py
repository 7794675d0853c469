"""Batches for a run: which examples make them, by how many processes, and what happens where one cannot be read."""

from __future__ import annotations

import logging
import signal
from collections.abc import Generator, Iterator

import numpy as np
import soundfile as sf
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from vcvae.errors import VcvaeError
from vcvae.training.task import Batch

MAX_RETRIES = 20  # examples that are tried in place of one that cannot be read
RETRY_OFFSET = 2**40  # between the numbers of these: further than any run goes

logger = logging.getLogger("vcvae")


class SkipUnreadable(Dataset):
    """The same examples; for one that cannot be read another is drawn, the same at each run. A warning says so, once.

    A run of days is worth more than a file. A disk that is gone is another matter: after some failures in a row the
    last one is raised.
    """

    def __init__(self, data: Dataset) -> None:
        self.data, self.told = data, set()

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        for other in range(MAX_RETRIES):
            try:
                return self.data[n + other * RETRY_OFFSET]
            except (VcvaeError, sf.LibsndfileError, OSError, ValueError) as error:
                reason = str(error)
                if reason not in self.told:
                    logger.warning("%s Other examples take the place of those that need it.", reason)
                self.told.add(reason)
        raise VcvaeError(f"{reason} Nor could {MAX_RETRIES - 1} other examples be read; run the same command to go on.")


class ResumableBatchSampler(Sampler):
    """The example numbers of each batch of one process, without end: all processes together take one after the other.

    `first` is the number of examples that the run has seen. With it alone a run goes on with any number of processes
    and any size of batch, and no example comes twice or is left out.
    """

    def __init__(self, size: int, first: int, *, process: int = 0, processes: int = 1) -> None:
        self.size, self.first, self.process, self.processes = size, first, process, processes

    def __iter__(self) -> Iterator[range]:
        start = self.first + self.process * self.size
        while True:
            yield range(start, start + self.size)
            start += self.processes * self.size


def batches(
    data: Dataset, positions: ResumableBatchSampler, *, workers: int, device: torch.device
) -> Generator[Batch, None, None]:
    """Batches on `device`, read by so many other processes; `close()` ends these.

    Raises:
        VcvaeError: no audio can be read any more, or a process that reads it was killed.
    """
    loader = DataLoader(
        SkipUnreadable(data),
        batch_sampler=positions,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_signals_to_the_parent,
    )
    return _moved(iter(loader), device)  # it draws a random number, so it begins here and not within a step


def _moved(read: Iterator[Batch], device: torch.device) -> Generator[Batch, None, None]:
    try:
        for batch in read:
            yield to(batch, device)
    except VcvaeError as error:  # from a worker, its message comes with the traceback
        raise VcvaeError(str(error).strip().splitlines()[-1].removeprefix("vcvae.errors.VcvaeError: ")) from None
    finally:
        # Readers ignore SIGTERM: one that is still there when Python exits would be waited for, for ever.
        getattr(read, "_shutdown_workers", lambda: None)()


def first(data: Dataset, examples: int, *, size: int, device: torch.device) -> Iterator[Batch]:
    """The first examples, in batches; they are read when they are asked for."""
    steady = SkipUnreadable(data)
    for i in range(0, examples, size):
        yield to(default_collate([steady[n] for n in range(i, i + size)]), device)


def to(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def is_a_killed_reader(error: RuntimeError) -> bool:
    """Whether torch says by this that a process that reads audio has died; it may say so at any time."""
    return "DataLoader worker" in str(error)


def _leave_signals_to_the_parent(_worker: int) -> None:
    # Ctrl-C reaches the whole process group; readers must live on until the step at hand is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
