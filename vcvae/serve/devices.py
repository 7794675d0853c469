"""Sound devices for the live conversion, by PortAudio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from vcvae.errors import VcvaeError


def sound_library() -> Any:
    """The module `sounddevice`.

    Raises:
        VcvaeError: it, or PortAudio, is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise VcvaeError("live: needs sounddevice; install it with pip install 'vcvae[live]'.") from None
    except OSError:
        raise VcvaeError("live: needs PortAudio; install it, on Debian with apt install libportaudio2.") from None
    return sounddevice


def device_rows() -> list[tuple[int, str, str, str]]:
    """Number, name, and numbers of input and output channels of each device; a * marks the defaults."""
    sounddevice = sound_library()
    defaults = list(sounddevice.default.device)
    rows = []
    for number, device in enumerate(sounddevice.query_devices()):
        channels = []
        for way, default in zip(("input", "output"), defaults, strict=True):
            channels.append(f"{device[f'max_{way}_channels']}{' *' if number == default else ''}")
        rows.append((number, device["name"], *channels))
    return rows


def choose_device(name: str | None, way: str) -> int | str | None:
    """The device of an option's value: a number of the list or a part of a name; None for the default.

    Args:
        name: the value.
        way: `input` or `output`.

    Raises:
        VcvaeError: there is no such device.
    """
    sounddevice = sound_library()
    device = int(name) if name and name.isdecimal() else name
    try:
        sounddevice.query_devices(device, way)
    except (ValueError, sounddevice.PortAudioError) as error:
        given = f"--{way} {name}" if name else f"--{way}"
        reason = str(error).split("\n")[0].rstrip(".")
        raise VcvaeError(f"{given}: no such sound device ({reason}); --list shows all.") from None
    return device


def rate_of(device: int | str | None, way: str, preferred: int) -> int:
    """`preferred`, if the device takes it, else the rate that it has by default, in Hz."""
    sounddevice = sound_library()
    check = sounddevice.check_input_settings if way == "input" else sounddevice.check_output_settings
    try:
        check(device=device, channels=1, samplerate=preferred, dtype="float32")
    except (ValueError, sounddevice.PortAudioError):
        return round(sounddevice.query_devices(device, way)["default_samplerate"])
    return preferred


@contextmanager
def open_devices(
    source: tuple[int | str | None, int, Callable[[np.ndarray], None]],
    outputs: list[tuple[int | str | None, int, Callable[[np.ndarray], None]]],
    *,
    block: float,
) -> Iterator[list[Any]]:
    """Run devices for the time of the block, and give their PortAudio streams.

    Args:
        source: the input device, its rate in Hz, and what takes its samples (samples,).
        outputs: output devices, their rates, and what fills their samples (samples,).
        block: seconds that a device gives or takes at a time.

    Raises:
        VcvaeError: a device cannot be opened.
    """
    sounddevice = sound_library()
    with ExitStack() as stack:
        try:
            device, rate, take = source

            def on_input(samples: np.ndarray, *_: Any) -> None:
                take(samples[:, 0])

            options = {"channels": 1, "dtype": "float32", "latency": "low"}
            streams = [
                sounddevice.InputStream(
                    device=device, samplerate=rate, blocksize=round(block * rate), callback=on_input, **options
                )
            ]
            for device, rate, play in outputs:

                def on_output(samples: np.ndarray, *_: Any, play: Callable[[np.ndarray], None] = play) -> None:
                    play(samples[:, 0])

                streams.append(
                    sounddevice.OutputStream(
                        device=device, samplerate=rate, blocksize=round(block * rate), callback=on_output, **options
                    )
                )
            for stream in streams:
                stack.enter_context(stream)
        except sounddevice.PortAudioError as error:
            raise VcvaeError(f"live: a sound device cannot be opened ({error.args[0]}); choose others.") from None
        yield streams
