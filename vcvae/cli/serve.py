"""The command that shows the page."""

from __future__ import annotations

from typing import Annotated

import typer

from vcvae.cli.console import say
from vcvae.cli.options import Device, Model
from vcvae.errors import VcvaeError


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
    try:
        import uvicorn

        from vcvae.serve.api import MAX_TARGET
        from vcvae.serve.app import make_app
    except ModuleNotFoundError as error:
        raise VcvaeError(f"serve: needs {error.name}; install it with pip install 'vcvae[web]'.") from None
    from vcvae.convert.converter import Converter

    converter = Converter.from_pretrained(model, device=device)
    app = make_app(converter, max_minutes=max_minutes, auth=(name, password) if auth else None, root_path=root_path)
    say(f"http://{host}:{port}{root_path}; Ctrl-C ends it")
    uvicorn.run(app, host=host, port=port, log_level="warning", ws_max_size=MAX_TARGET)
