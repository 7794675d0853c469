"""The command line. It parses, calls, and reports; heavy imports wait until a command needs them."""

from __future__ import annotations

import logging
import sys

import typer

from vcvae.cli.inference import convert, decode, denoise, encode, vocode
from vcvae.cli.info import env, info
from vcvae.cli.training import adapt, evaluate, export, listener, prepare, reader, run, train
from vcvae.errors import VcvaeError

app = typer.Typer(
    help="Voice conversion: change who speaks in a recording and keep what is said.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    *(convert, vocode, encode, decode, denoise),
    *(prepare, train, evaluate, run, export, listener, reader, adapt),
    *(info, env),
):  # in the order of --help
    app.command()(command)


def main() -> None:
    """The `vcvae` command: errors that a person can mend are one sentence and exit code 2."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("vcvae: %(message)s"))
    logger = logging.getLogger("vcvae")
    logger.addHandler(handler)
    try:
        app()
    except VcvaeError as error:
        print(f"vcvae: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a name that is too long, say
        print(f"vcvae: {error.filename or 'the disk'}: {error.strerror or error}.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        logger.removeHandler(handler)  # one that stayed would write to where this call's errors went
