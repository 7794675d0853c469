"""The command that converts live, from a microphone to a loudspeaker or a virtual microphone."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vcvae.cli.batch import Failures
from vcvae.cli.console import err, learning_progress, progress_bars, say, say_written, show_table
from vcvae.cli.options import ON_CPU, Device, Force, Model, PitchShift, non_empty_path, refuse_ignored, refuse_others
from vcvae.errors import VcvaeError

if TYPE_CHECKING:
    from vcvae.convert.stream import Stream
    from vcvae.serve.live import LiveConversion, Report

SIMULATED_MINUTES = 30  # of a recording in the place of the microphone, which are decoded before the clock starts


def live(
    context: typer.Context,
    target: Annotated[
        list[Path] | None,
        typer.Option(
            help="A .voice that `vcvae voice` made; or a recording of the target, or a folder of them.",
            parser=non_empty_path,
        ),
    ] = None,
    input: Annotated[str | None, typer.Option(help="Microphone: a number or a part of a name of --list.")] = None,
    output: Annotated[
        str | None, typer.Option(help="Loudspeaker, or virtual microphone: likewise a number or a part of a name.")
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list", help="List the sound devices, and end.")] = False,
    block: Annotated[
        float, typer.Option(min=1, max=500, help="Milliseconds that a device gives or takes at a time.")
    ] = 10.0,
    pitch_shift: PitchShift = 0.0,
    monitor: Annotated[
        str | None,
        typer.Option(help="on or off, by default on: with --output, play the conversion on the default output, too."),
    ] = None,
    simulate: Annotated[
        Path | None,
        typer.Option(
            help="A recording in the place of the microphone, at the pace of the clock.", parser=non_empty_path
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("-o", help="With --simulate: the file that the conversion is written to.", parser=non_empty_path),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Make the voice of recordings in one pass, without learning it first.")
    ] = False,
    model: Model = None,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Convert what a microphone records, as it arrives. Ctrl-C ends it."""
    if list_devices:
        refuse_others(context, "--list")
        from vcvae.serve.devices import device_rows

        show_table("sound devices (* default)", ("number", "name", "inputs", "outputs"), device_rows())
        return
    if monitor not in (None, "on", "off"):
        raise VcvaeError(f"--monitor {monitor}: give on or off.")
    if not target:
        raise VcvaeError("--target: missing; give a voice that 'vcvae voice' made, or recordings of the target.")
    if bool(simulate) != bool(write):
        raise VcvaeError("--simulate: needs -o FILE, and -o needs --simulate; give both or neither.")
    if simulate and (input or output):
        raise VcvaeError("--simulate: takes the place of the devices; leave out --input and --output.")
    if not output:
        refuse_ignored({"--monitor": monitor}, "without --output")
    if not simulate:
        from vcvae.serve.devices import choose_device

        choose_device(input, "input")
        choose_device(output, "output")
    stream = _load_stream(target, model, device, quick, pitch_shift)
    if simulate:
        _simulate(stream, simulate, write, block=block / 1000, force=force)
    else:
        _run_devices(stream, input, output, block=block / 1000, monitors=output is not None and monitor != "off")


def _load_stream(targets: list[Path], model: str | None, device: str, quick: bool, pitch_shift: float) -> Stream:
    import torch

    from vcvae.cli.targets import Learning, ToTargets
    from vcvae.convert.converter import Converter
    from vcvae.models.conversion.voice import is_voice

    if any(map(is_voice, targets)):
        refuse_ignored({"--device": device not in ON_CPU}, "with a .voice: a stream is converted on the CPU")
    left_out = Failures()
    with progress_bars() as add_bar:
        learning = None
        if not quick:
            bar = learning_progress(add_bar, advice=" (--quick skips it)")
            learning = Learning(announce=True, left_out=left_out, progress=bar)
        progress = add_bar("loading")
        converter = Converter.from_pretrained(model, device=device)
        voice = ToTargets(converter, [], learning, left_out).take_voice(tuple(targets), progress)
    left_out.show("left out", ("recording of the target", "why"))
    # A step's matrices are small: a second thread gains nothing, and waits wherever another program has its core.
    torch.set_num_threads(1)
    return converter.stream(voice, pitch_shift=pitch_shift)


def _simulate(stream: Stream, source: Path, output: Path, *, block: float, force: bool) -> None:
    import numpy as np

    from vcvae import audio
    from vcvae.serve.live import RESERVE, LiveConversion, Player

    rate = stream.sample_rate
    audio.check_output(output, force)
    samples = audio.read(source, rate, max_seconds=60 * SIMULATED_MINUTES)
    total = len(samples)
    size = round(block * rate)
    player = Player(rate, wait=stream.step + RESERVE)
    conversion = LiveConversion(stream, input_rate=rate, players=[player])
    blocks = [samples[i : i + size] for i in range(0, len(samples), size)]
    out = np.zeros(size, np.float32)
    played, reports, latencies = [], [], []
    with progress_bars() as add_bar, _running(conversion):
        progress = add_bar("converting")
        began = time.perf_counter()
        for number, samples in enumerate(blocks):
            # A microphone gives a block when its last sample is recorded.
            time.sleep(max(0.0, began + (number + 1) * block - time.perf_counter()))
            conversion.take(samples)
            player.play(out)
            played.append(out.copy())
            if player.buffer.taken:
                latencies.append(conversion.latency)
            if number % 100 == 99:
                progress(number, len(blocks), "converting")
                reports.append(conversion.report())
        reports.append(conversion.report())
    audio.write(output, np.concatenate(played)[:total], rate, force=force)
    say_written(output)
    dropped = sum(report.dropped for report in reports)
    load = sum(report.load for report in reports) / len(reports)
    median = np.median(latencies or [np.nan])
    longest = np.max(latencies or [np.nan])
    say(
        f"latency {1000 * median:.0f} ms (longest {1000 * longest:.0f} ms), of the algorithm "
        f"{1000 * stream.latency:.0f} ms; "
        f"load {load:.0%} of one core; dropped blocks {dropped}"
    )


def _run_devices(stream: Stream, input: str | None, output: str | None, *, block: float, monitors: bool) -> None:
    from vcvae.serve.devices import choose_device, open_devices, rate_of
    from vcvae.serve.live import RESERVE, LiveConversion, Player

    source = choose_device(input, "input")
    source_rate = rate_of(source, "input", stream.sample_rate)
    outputs, players = [], []
    for device in [choose_device(output, "output"), *([None] if monitors else [])]:
        rate = rate_of(device, "output", stream.sample_rate)
        players.append(Player(rate, wait=stream.step + RESERVE))
        outputs.append((device, rate, players[-1].play))
    conversion = LiveConversion(stream, input_rate=source_rate, players=players)
    dropped = 0
    with (
        _running(conversion),
        open_devices((source, source_rate, conversion.take), outputs, block=block) as streams,
        _meter() as show,
    ):
        devices = streams[0].latency + streams[1].latency
        say("converting; Ctrl-C ends it")
        try:
            while True:
                time.sleep(1.0)
                report = conversion.report()
                dropped += report.dropped
                show(report, devices, dropped)
        except KeyboardInterrupt:
            pass
    say(f"ended; dropped blocks {dropped}")


@contextmanager
def _running(conversion: LiveConversion):
    conversion.start()
    try:
        yield
    finally:
        conversion.stop()


@contextmanager
def _meter():
    """A line that shows the last report, on a terminal; warnings where the machine is too slow."""
    from rich.live import Live

    from vcvae.serve.live import TOO_SLOW

    with Live(console=err, transient=True, auto_refresh=False) as line:

        def show(report: Report, devices: float, dropped: int) -> None:
            if report.dropped >= TOO_SLOW:
                err.print(
                    f"the machine is too slow: {report.dropped} blocks dropped in a second, load {report.load:.0%} of "
                    "one core. Close other programs, plug in the charger, or take a larger --block."
                )
            if err.is_terminal:
                bar = "█" * max(0, round((report.source_level + 60) / 3))
                line.update(
                    f"in {report.source_level:4.0f} dB {bar:20} out {report.converted_level:4.0f} dB   "
                    f"latency {1000 * (report.latency + devices):.0f} ms   load {report.load:.0%}   dropped {dropped}",
                    refresh=True,
                )

        yield show
