"""The command line. It parses, calls, and prints; heavy imports wait until a command needs them."""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
import warnings
from typing import Annotated

import typer

from vcvae import __version__
from vcvae.cli import anonymize, convert, data, evaluate, info, live, serve, synthesis, training, voice
from vcvae.cli.console import err, escape_unprintable, open_closed_streams, printable
from vcvae.errors import VcvaeError

# Of GNU OpenMP, on which torch runs: the rounds in which a thread waits for the others before it sleeps. With the
# default of 300,000, where another process keeps a core busy, threads hold up each other's work: 20 times the time.
SPIN_COUNT = "20000"

app = typer.Typer(
    help="Voice conversion: change the speaker of a recording and keep its words.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    *(convert.convert, voice.voice, anonymize.anonymize, live.live, serve.serve),
    *(synthesis.vocode, synthesis.encode, synthesis.decode, synthesis.denoise),
    *(data.prepare, training.train, training.export, training.fit, training.run),
    *(evaluate.evaluate, evaluate.compare),
    *(info.info, info.env),
)
for command in COMMANDS:  # in the order of --help
    app.command()(command)


def _print_version(value: bool) -> None:
    if value:
        print(f"vcvae {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options that stand before a command."""


class _ErrorLog(logging.Handler):
    """Prints the package's warnings above a progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(f"vcvae: {printable(record.getMessage())}", soft_wrap=True)


def main() -> None:
    """The `vcvae` command: errors that a user can correct are one sentence and exit code 2.

    SIGTERM ends it as Ctrl-C does: temporary files are removed.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    open_closed_streams()
    escape_unprintable()
    previous_handler = signal.signal(signal.SIGTERM, _terminate)
    previous_hook, sys.unraisablehook = sys.unraisablehook, _interrupt_again
    package, root = logging.getLogger("vcvae"), logging.getLogger()
    package_handler, root_handler = _ErrorLog(), logging.NullHandler()
    package.addHandler(package_handler)
    root.addHandler(root_handler)  # so that warnings of other packages are not printed
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # it prints its own: each attempt, without network
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            app()
    except VcvaeError as error:
        _fail(str(error))
    except OSError as error:  # a name that is too long, say
        _fail(f"{error.filename or 'the disk'}: {error.strerror or error}.")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        found = str(error).strip().split("\n")[0]
        _fail(
            f"out of memory ({found or 'of this machine'}); close other programs, or train with fewer batch_speakers."
        )
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
        sys.unraisablehook = previous_hook
        package.removeHandler(package_handler)
        root.removeHandler(root_handler)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether NumPy, Python, or torch, on any device, had no memory left."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _terminate(*_signal: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Where a signal's exception meets a destructor, Python ignores it: send the signal again, after this function."""
    numbers = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}
    if unraisable.exc_type in numbers:
        threading.Timer(0.01, _thread.interrupt_main, [numbers[unraisable.exc_type]]).start()
    else:
        sys.__unraisablehook__(unraisable)


def _fail(sentence: str) -> None:
    print(f"vcvae: {printable(sentence)}", file=sys.stderr)
    sys.exit(2)
