"""What may be sent to the page's functions: values that its fields can hold, and files that were uploaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio
from gradio.utils import get_upload_folder


class CheckedBlocks(gradio.Blocks):
    """A page of the framework that says in one sentence what is wrong with a function's inputs."""

    async def preprocess_data(self, block_fn: Any, inputs: list, *arguments: Any, **options: Any) -> list:
        """As the framework's, which turns what the browser sends into the arguments of a function.

        Raises:
            gradio.Error: a value that no field can hold, or a file that was not uploaded: the framework would read
                any file of this machine.
        """
        try:
            folder = Path(get_upload_folder()).resolve()
            if all(Path(path).resolve().is_relative_to(folder) for path in _paths(inputs)):
                return await super().preprocess_data(block_fn, inputs, *arguments, **options)
        except gradio.Error as error:
            error.print_exception = False
            raise
        except Exception:  # of the framework: it does not expect what its page does not send
            pass
        raise gradio.Error("a field is wrong, or its file is gone; fill it in again.", print_exception=False)


def _paths(value: Any) -> Iterator[str]:
    """The paths of files in what the browser sends."""
    if isinstance(value, dict):
        if "path" in value:
            yield str(value["path"])
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _paths(part)


async def delete_unfinished_uploads(*, every: float, age: float) -> None:
    """Delete what the framework has of uploads that broke off, without end.

    Args:
        every: seconds between two looks.
        age: seconds since a file was written to, after which it counts as left.
    """
    while True:
        await asyncio.sleep(every)
        for path in Path(get_upload_folder()).glob("tmp*"):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - age:
                    path.unlink()
