"""The command that learns a voice and writes it to a file, and looks after the voices that conversions have kept."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from itertools import tee
from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.batch import Failures, name_of
from vcvae.cli.console import learning_progress, progress_bars, say
from vcvae.cli.options import (
    ON_CPU,
    Device,
    Force,
    Model,
    Replay,
    Steps,
    non_empty_path,
    refuse_ignored,
    refuse_others,
    source_path,
)
from vcvae.defaults import STDIN, VOICE_DISTANCE, VOICE_STEPS, VOICE_SUFFIX
from vcvae.errors import VcvaeError, check_absent, check_exists


def voice(
    context: typer.Context,
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Recordings of one speaker, or folders of them: from some seconds to 30 minutes; - is standard input.",
            parser=source_path,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write: NAME.voice.", parser=non_empty_path)
    ] = None,
    name: Annotated[str, typer.Option(help="Whose voice it is; by default, the file's name.")] = "",
    consent: Annotated[str, typer.Option(help="That the speaker agreed: how, when, to what.")] = "",
    note: Annotated[str, typer.Option(help="Anything else to keep with it, such as a licence.")] = "",
    model: Model = None,
    steps: Steps = None,
    replay: Replay = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            help="A .voice, a recording or a folder of them, '=' and its weight; to be repeated. The voice between "
            "them; that of recordings is taken in one pass.",
            metavar="TARGET=WEIGHT",
        ),
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Draw a voice that nobody has, by the seed.")] = False,
    f0: Annotated[float | None, typer.Option(help="Mean F0 of a drawn voice in Hz; by default, drawn, too.")] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="A .voice, or recordings, that a drawn voice resembles.", parser=source_path),
    ] = None,
    distance: Annotated[
        float | None, typer.Option(help=f"From --like: 1 - cosine; by default {VOICE_DISTANCE}.")
    ] = None,
    device: Device = "auto",
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Random seed of all that is drawn; by default, 0."),
    ] = None,
    force: Force = False,
    list_kept: Annotated[
        bool, typer.Option("--list", help="List the voices that `vcvae convert` has learned and kept.")
    ] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the voices that `vcvae convert` has kept.")] = False,
) -> None:
    """Learn the voice of RECORDINGS once, and write it to a file that `vcvae convert --target` takes.

    Or mix voices (--mix), or draw one that nobody has (--draw).
    """
    if list_kept or clear:
        refuse_others(context, "--list" if list_kept else "--clear")
        _clear() if clear else _list()
        return
    if bool(recordings) + bool(mix) + draw != 1:
        raise VcvaeError("voice: give RECORDINGS of the speaker, or one of --mix, --draw, --list and --clear.")
    if not draw and (f0 is not None or like):
        raise VcvaeError("--f0, --like: are for a voice that is drawn; give --draw.")
    if distance is not None and not like:
        raise VcvaeError("--distance: from what? Give --like.")
    if mix or draw:
        refuse_ignored({"--steps": steps, "--replay": replay}, "with --mix and --draw: nothing is learned")
    if steps == 0:
        refuse_ignored({"--replay": replay}, "with --steps 0: nothing is learned")
    steps = VOICE_STEPS if steps is None else steps
    if output is None or output.suffix.lower() != VOICE_SUFFIX:
        raise VcvaeError(
            f"--output: {'missing' if output is None else output}; give a file that ends in {VOICE_SUFFIX}."
        )
    check_absent(output, force)
    texts = {key: text for key, text in (("name", name), ("consent", consent), ("note", note)) if text}
    if mix:
        _mix(mix, output, model, device, seed, texts)
        return
    if draw:
        _draw(output, model, device, seed or 0, f0, like, VOICE_DISTANCE if distance is None else distance, texts)
        return
    from vcvae import audio
    from vcvae.convert.converter import Converter
    from vcvae.convert.encoder import choose_sources
    from vcvae.convert.similarity import speaker_similarity
    from vcvae.models.conversion.voice import VoiceCard

    for recording in recordings:
        if recording == STDIN:
            audio.check_input()
        else:
            check_exists(recording)
    left_out = Failures()
    files, again = tee(file for recording in recordings for file in left_out.find_readable(recording))
    sources = choose_sources(left_out.find_readable(replay)) if replay else []
    card = VoiceCard(name=name or output.stem, consent=consent, note=note, model=model or "")
    with progress_bars() as add_bar:
        progress = add_bar("loading")
        converter = Converter.from_pretrained(model, device=device)
        start = time.monotonic()
        bar = learning_progress(add_bar)
        learned = converter.learn(
            files, sources=sources, steps=steps, seed=seed or 0, card=card, reading=progress, progress=bar
        )
        seconds = time.monotonic() - start
        learned.save(output)
        progress(0, None, "measuring")
        stages = {"in one pass": replace(learned, learned=None)} | ({"learned": learned} if steps else {})
        similarities = speaker_similarity(converter, stages.values(), again)
    size = output.stat().st_size / 1e6
    say(f"{output}: {size:.1f} MB, made from {learned.card.seconds:.1f} s of speech in {seconds:.0f} s")
    measured = [f"{value:.2f} {stage}" for stage, value in zip(stages, similarities, strict=False)]
    if measured:
        say(f"similarity of conversions to the target: {', '.join(measured)} (network of the speaker loss)")
    if not consent:
        say("consent: not stated; --consent keeps with the voice how the speaker agreed")
    _report(left_out)


def _mix(
    parts: list[str], output: Path, model: str | None, device: str, seed: int | None, texts: dict[str, str]
) -> None:
    """Write the mixture of voices and recordings, each with a weight; `texts` of its card."""
    from vcvae.convert.converter import Converter
    from vcvae.environment import find_device
    from vcvae.models.conversion.voice import Voice, VoiceCard, is_voice

    paths, weights = zip(*map(_parse_weight, parts), strict=True)
    if all(map(is_voice, paths)):
        ignored = {"--model": model, "--seed": seed, "--device": device not in ON_CPU}
        refuse_ignored(ignored, f"with {VOICE_SUFFIX} files alone: the mixture is theirs")
    converter = None
    voices, left_out = [], Failures()
    with progress_bars() as add_bar:
        progress = add_bar("loading")
        for number, path in enumerate(paths):
            progress(number, len(paths), path.name)
            if is_voice(path):
                voices.append(Voice.load(path))
                continue
            files = left_out.find_readable(path)
            converter = converter or Converter.from_pretrained(model, device=device)
            card = VoiceCard(name=name_of(path), model=model or "")
            voices.append(converter.learn(files, steps=0, seed=seed or 0, card=card, reading=progress))
    mixed = Voice.mix([voice.to(find_device("cpu")) for voice in voices], weights)
    mixed = replace(mixed, card=replace(mixed.card, **texts))
    mixed.save(output)
    say(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {mixed.card.name}")
    if not mixed.card.consent:
        say("consent: not stated; --consent keeps with the voice how the speakers agreed")
    _report(left_out)


def _parse_weight(part: str) -> tuple[Path, float]:
    name, is_given, number = part.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        is_given = ""
    if not is_given:
        raise VcvaeError(f"--mix {part}: no weight; give TARGET=WEIGHT, such as ann.voice=0.7.")
    return non_empty_path(name), weight


def _draw(
    output: Path,
    model: str | None,
    device: str,
    seed: int,
    f0: float | None,
    like: Path | None,
    distance: float,
    texts: dict[str, str],
) -> None:
    """Write a voice drawn by the seed; `texts` of its card."""
    from vcvae.convert.converter import Converter
    from vcvae.models.conversion.voice import Voice, is_voice

    with progress_bars() as add_bar:
        progress = add_bar("drawing")
        converter = Converter.from_pretrained(model, device=device)
        resembled, left_out = None, Failures()
        if like:
            if is_voice(like):
                resembled = Voice.load(like)
            else:
                resembled = converter.voice(left_out.find_readable(like), progress=progress)
            progress(0, None, "drawing")
        drawn = converter.draw(seed=seed, f0=f0, like=resembled, distance=distance)
    drawn = replace(drawn, card=replace(drawn.card, **{"name": output.stem, "model": model or ""} | texts))
    drawn.save(output)
    embedding = converter.model.centred_embedding(drawn).cpu()
    say(f"{output}: {output.stat().st_size / 1e6:.1f} MB, mean F0 {2 ** float(drawn.f0_statistics.mean):.0f} Hz")
    nearest = float(converter.prior.nearest(embedding))
    say(f"cosine {nearest:.2f} with the most similar of {len(converter.prior.speakers)} training speakers")
    if resembled is not None:
        cosine = float(embedding[0] @ converter.model.centred_embedding(resembled)[0].cpu())
        say(f"distance from {like}: {1 - cosine:.2f}")
    _report(left_out)


def _report(left_out: Failures) -> None:
    """Print which recordings were left out.

    Raises:
        typer.Exit: there are some.
    """
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
