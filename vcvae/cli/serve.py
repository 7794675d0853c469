"""The command that shows the page."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from vcvae.cli.console import say
from vcvae.cli.options import Device, Model
from vcvae.errors import VcvaeError, reason, shorten, temporary_folder

PATIENCE = 3  # seconds for which answers that have begun are waited for at the end
SHORT = 0.5  # seconds, in which a thread ends that does nothing


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all networks of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    auth: Annotated[str | None, typer.Option(help="NAME:PASSWORD that visitors must give.")] = None,
    root_path: Annotated[str, typer.Option(help="Path at which a proxy shows the page.")] = "",
    max_minutes: Annotated[float, typer.Option(min=0.1, max=600, help="Longest recording.")] = 10.0,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Show a page to convert from, in a browser, and answer HTTP requests."""
    name, _, password = (auth or "").partition(":")
    if auth is not None and not (name and password):
        raise VcvaeError("--auth: give NAME:PASSWORD.")
    if not re.fullmatch(r"(/[\w.~-]+)*", root_path, re.ASCII):
        raise VcvaeError(
            f"--root-path {shorten(root_path)}: not a path such as /voices; give it without a / at its end."
        )
    _check_address(host, port)
    with _not_waiting_for_threads(), _own_temporary_files():  # before the import, which takes the place of these
        try:
            import uvicorn

            from vcvae.serve.api import MAX_TARGET
            from vcvae.serve.app import make_app
            from vcvae.serve.guard import keep_record
        except ModuleNotFoundError as error:
            raise VcvaeError(f"serve: needs {error.name}; install it with pip install 'vcvae[web]'.") from None
        from vcvae.convert.converter import Converter

        converter = Converter.from_pretrained(model, device=device)
        credentials = (name, password) if auth else None
        app = make_app(converter, max_minutes=max_minutes, auth=credentials, root_path=root_path)
        logging.getLogger("uvicorn.error").addFilter(keep_record)
        say(f"http://{host}:{port}{root_path}; Ctrl-C ends it")
        uvicorn.run(
            app,
            host=host,
            port=port,
            log_level="warning",
            ws_max_size=MAX_TARGET,
            timeout_graceful_shutdown=PATIENCE,
        )


def _check_address(host: str, port: int) -> None:
    """Raise VcvaeError if nothing can listen there, before a model is loaded."""
    try:
        if not host:
            raise ValueError("it is empty, which would be all networks")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, ValueError) as error:
        text = reason(error)
        raise VcvaeError(
            f"--host {shorten(host)} --port {port}: cannot be listened on ({text}); give others."
        ) from None


@contextmanager
def _not_waiting_for_threads() -> Iterator[None]:
    """End the process with the block, even if threads that it started are still converting: nobody takes the result."""
    before, code = threading.enumerate(), 0
    try:
        yield
    except SystemExit as end:
        code = end.code
        raise
    finally:
        started = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
        for thread in started:
            thread.join(SHORT)  # an idle one ends now
        if any(thread.is_alive() for thread in started):
            sys.stdout.flush()
            os._exit(code)


@contextmanager
def _own_temporary_files() -> Iterator[None]:
    """All temporary files of this process are in one folder, which goes with it, or after it if it is killed."""
    before = tempfile.tempdir
    with temporary_folder() as folder:
        tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
