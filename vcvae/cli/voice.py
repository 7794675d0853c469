"""The command that learns a voice and writes it to a file, and looks after the voices that conversions have kept."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.batch import Failures
from vcvae.cli.console import learning_progress, progress_bars, say
from vcvae.cli.options import Device, Force, Model, Replay, non_empty_path
from vcvae.defaults import VOICE_STEPS, VOICE_SUFFIX
from vcvae.errors import VcvaeError, check_absent


def voice(
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Recordings of one speaker, or folders of them: from some seconds to 30 minutes.",
            parser=non_empty_path,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write: NAME.voice.", parser=non_empty_path)
    ] = None,
    name: Annotated[str, typer.Option(help="Whose voice it is; by default, the file's name.")] = "",
    consent: Annotated[str, typer.Option(help="That the speaker agreed: how, when, to what.")] = "",
    note: Annotated[str, typer.Option(help="Anything else to keep with it, such as a licence.")] = "",
    model: Model = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps of fine-tuning; with 0, the voice of one pass, as `convert --quick` has.")
    ] = VOICE_STEPS,
    replay: Replay = None,
    device: Device = "auto",
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Random seed of fine-tuning and of the choice of frames.")
    ] = 0,
    force: Force = False,
    list_kept: Annotated[
        bool, typer.Option("--list", help="List the voices that `vcvae convert` has learned and kept.")
    ] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the voices that `vcvae convert` has kept.")] = False,
) -> None:
    """Learn the voice of RECORDINGS once, and write it to a file that `vcvae convert --target` takes."""
    if list_kept or clear:
        if recordings or output or (list_kept and clear):
            raise VcvaeError("--list, --clear: give one of them, and nothing beside it.")
        _clear() if clear else _list()
        return
    if not recordings:
        raise VcvaeError("voice: give RECORDINGS of the speaker, or one of --list and --clear.")
    if output is None or output.suffix.lower() != VOICE_SUFFIX:
        raise VcvaeError(
            f"--output: {'missing' if output is None else output}; give a file that ends in {VOICE_SUFFIX}."
        )
    check_absent(output, force)
    from vcvae.convert.converter import Converter
    from vcvae.convert.similarity import speaker_similarity
    from vcvae.models.conversion.voice import VoiceCard

    left_out = Failures()
    files = [file for recording in recordings for file in left_out.find_readable(recording)]
    sources = left_out.find_readable(replay) if replay else []
    card = VoiceCard(name=name or output.stem, consent=consent, note=note, model=model or "")
    with progress_bars() as add_bar:
        progress = add_bar("loading")
        converter = Converter.from_pretrained(model, device=device)
        start = time.monotonic()
        bar = learning_progress(add_bar)
        learned = converter.learn(files, sources=sources, steps=steps, seed=seed, card=card, progress=bar)
        seconds = time.monotonic() - start
        learned.save(output)
        progress(0, None, "measuring")
        stages = {"in one pass": replace(learned, learned=None)} | ({"learned": learned} if steps else {})
        similarities = speaker_similarity(converter, stages.values(), files)
    size = output.stat().st_size / 1e6
    say(f"{output}: {size:.1f} MB, made from {learned.card.seconds:.1f} s of speech in {seconds:.0f} s")
    measured = [f"{value:.2f} {stage}" for stage, value in zip(stages, similarities, strict=False)]
    if measured:
        say(f"similarity of conversions to the target: {', '.join(measured)} (network of the speaker loss)")
    if not consent:
        say("consent: not stated; --consent keeps with the voice how the speaker agreed")
    left_out.show("left out", ("recording", "why"))
    if left_out.count:
        raise typer.Exit(1)


def _list() -> None:
    """Print the kept voices, the last used first."""
    from vcvae.convert.voice_cache import VoiceCache
    from vcvae.models.conversion.voice import Voice

    cache = VoiceCache()
    rows = []
    for path in cache.files():
        try:
            card = Voice.load(path).card
        except VcvaeError:  # another process has removed it, or it is damaged
            continue
        used = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        rows.append((card.name, f"{card.seconds:.0f} s", f"{path.stat().st_size / 1e6:.1f} MB", used, path))
    for name, seconds, size, used, path in rows:
        say(f"{name}: {seconds} of speech, {size}, last used {used}: {path}")
    say(f"kept voices: {len(rows)}, in {cache.folder}")


def _clear() -> None:
    """Remove the kept voices."""
    from vcvae.convert.voice_cache import VoiceCache

    cache = VoiceCache()
    say(f"removed voices: {cache.clear()}, from {cache.folder}")
