"""The command that makes a corpus ready for training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.console import MAX_LISTED, progress_bar, say, show_table
from vcvae.cli.options import finite, non_empty_path
from vcvae.defaults import MAX_JOBS, MINIMUM_SECONDS

DEFAULT_JOBS = min(MAX_JOBS, max(1, (os.cpu_count() or 2) - 1))
MAX_SPEAKERS = 1_000_000  # of a split


def prepare(
    corpus: Annotated[
        str,
        typer.Argument(help="vctk, libritts, libritts-r, librispeech, cmu-arctic, aishell3, commonvoice or folder."),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of the corpus; of `folder`: SOURCE/speaker/*.wav|flac|mp3|…", parser=non_empty_path
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(help="Folder for the prepared audio and its manifests.", parser=non_empty_path)
    ],
    jobs: Annotated[int, typer.Option(min=1, max=MAX_JOBS, help="Number of processes.")] = DEFAULT_JOBS,
    minimum: Annotated[
        float, typer.Option(min=0, max=3600, callback=finite, help="Shortest recording that is used, seconds.")
    ] = MINIMUM_SECONDS,
    dev: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SPEAKERS, help="Speakers for validation; by default, a tenth, at most 64."),
    ] = None,
    test: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SPEAKERS, help="Speakers for the final test; by default, as many as --dev."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Random seed of the choice of these speakers.")] = 0,
    parallel: Annotated[
        str | None,
        typer.Option(help="Name prefix of speakers with time-aligned parallel utterances, whose silences are kept."),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the corpus into SOURCE first.")] = False,
    shar: Annotated[bool, typer.Option("--shar", help="Also write shards that can be streamed from a URL.")] = False,
) -> None:
    """Prepare a corpus for training: mono FLAC at 22.05 kHz, trimmed, measured, listed, and split by speaker."""
    from vcvae.data.prepare import REPORT
    from vcvae.data.prepare import prepare as prepare_corpus
    from vcvae.features.mel import MelConfig

    if download:
        from vcvae.data.download import download

        download(corpus, source)
    with progress_bar("preparing") as progress:
        report = prepare_corpus(
            corpus,
            source,
            destination,
            sample_rate=MelConfig().sample_rate,
            minimum_seconds=minimum,
            dev=dev,
            test=test,
            seed=seed,
            jobs=jobs,
            parallel=parallel,
            progress=progress,
        )
    if report.left_out:
        show_table("left out", ("file", "why"), report.left_out[:MAX_LISTED])
        say(f"{len(report.left_out)} files left out, listed in {destination / REPORT}")
    splits = ", ".join(f"{name} {len(speakers)}" for name, speakers in report.splits.items())
    say(f"{destination}: {report.utterances} utterances; speakers: {splits}")
    if shar:
        from vcvae.data.shar import SHAR, export_shards

        for name, speakers in report.splits.items():
            if speakers:
                with progress_bar("exporting shards") as progress:
                    shards = export_shards(destination / name, jobs=jobs, progress=progress)
                say(f"{destination / name / SHAR}: {shards} shard{'s' * (shards > 1)}")
