"""Training batches: their order over processes and resumed runs, and what happens when a file cannot be read."""

from __future__ import annotations

import logging
import signal
from collections.abc import Generator, Iterator

import numpy as np
import soundfile as sf
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from vcvae.data.pool import follow_parent
from vcvae.errors import VcvaeError
from vcvae.training.task import Batch

MAX_RETRIES = 20  # examples tried in turn, the first included, before an unreadable one is an error
RETRY_OFFSET = 2**40  # between their numbers; more than the examples of any run

_log = logging.getLogger("vcvae")


class SkipUnreadable(Dataset):
    """A dataset in which an unreadable example is replaced by another, the same one in every run, with one warning.

    One broken file should not end a run of days. When a whole disk is gone, `MAX_RETRIES` failures in a row raise.
    """

    def __init__(self, data: Dataset) -> None:
        self.data, self.warned = data, set()

    def __getitem__(self, n: int) -> dict[str, np.ndarray]:
        for attempt in range(MAX_RETRIES):
            try:
                return self.data[n + attempt * RETRY_OFFSET]
            except (VcvaeError, sf.LibsndfileError, OSError, ValueError) as error:
                reason = str(error)
                if reason not in self.warned:
                    _log.warning("%s Other examples are used in its place.", reason)
                self.warned.add(reason)
        raise VcvaeError(
            f"{reason} {MAX_RETRIES - 1} other examples could not be read either; run the same command to resume."
        )


class ResumableBatchSampler(Sampler):
    """The example numbers of each batch of one process, without end; the batches of all processes are consecutive.

    `first` is the number of examples that the run has used so far. It is all that a run needs to resume, with any
    number of processes and any batch size, without repeating or omitting an example.
    """

    def __init__(self, size: int, first: int, *, process: int = 0, processes: int = 1) -> None:
        self.size, self.first, self.process, self.processes = size, first, process, processes

    def __iter__(self) -> Iterator[range]:
        start = self.first + self.process * self.size
        while True:
            yield range(start, start + self.size)
            start += self.processes * self.size


def batches(
    data: Dataset, sampler: ResumableBatchSampler, *, workers: int, device: torch.device
) -> Generator[Batch, None, None]:
    """Batches on `device`, read by `workers` other processes; `close()` of the generator ends these.

    Raises:
        VcvaeError: `MAX_RETRIES` examples in a row cannot be read, or a process that reads audio was killed.
    """
    loader = DataLoader(
        SkipUnreadable(data),
        batch_sampler=sampler,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start_reader,
    )
    return _on_device(iter(loader), device)  # iter() draws a random number, so it is called here and not within a step


def _on_device(loader: Iterator[Batch], device: torch.device) -> Generator[Batch, None, None]:
    try:
        for batch in loader:
            yield to_device(batch, device)
    except VcvaeError as error:  # raised in a worker, its message includes the traceback
        raise VcvaeError(str(error).strip().splitlines()[-1].removeprefix("vcvae.errors.VcvaeError: ")) from None
    finally:
        # Workers ignore SIGTERM, so Python would wait forever at its exit for one that still runs.
        getattr(loader, "_shutdown_workers", lambda: None)()


def first_batches(data: Dataset, examples: int, *, size: int, device: torch.device) -> Iterator[Batch]:
    """The first `examples` examples in batches of `size`, each read when it is needed."""
    readable = SkipUnreadable(data)
    for i in range(0, examples, size):
        yield to_device(default_collate([readable[n] for n in range(i, i + size)]), device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch, with all its tensors on `device`."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def is_killed_worker(error: RuntimeError) -> bool:
    """Whether torch reports by this error, which it may raise at any time, that a data-loading process has died."""
    return "DataLoader worker" in str(error)


def _start_reader(_worker: int) -> None:
    follow_parent(signal.SIGINT, signal.SIGTERM)  # it must live until the current step is done
