"""Exporting a training run as a model: weights, configuration, and a model card that states how it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vcvae.documents import read_json
from vcvae.errors import VcvaeError, shorten
from vcvae.models.hub import CONFIG, check_vacant
from vcvae.training import checkpoint
from vcvae.training.run_folder import last_checkpoint, load_task, saved_config


def export(run: Path, destination: Path, *, best: bool = False, small: bool = False, force: bool = False) -> int:
    """Write the model of a run: safetensors, config.json, and a model card; returns the step of its checkpoint.

    The checkpoint is the last one, or with `best` the best one by the run's `best_by`. The weights are float16, or with
    `small` int8 (`vcvae.models.hub.quantize_int8`). A README.md that is already there is kept: its author may have
    edited it.

    Raises:
        VcvaeError: no run in `run`, no best checkpoint, a model in `destination` (without `force`), or it cannot be
            written.
    """
    check_vacant(destination, force)
    saved = last_checkpoint(run)
    config, task = load_task(saved)
    if best:
        saved = checkpoint.load_best(run, config.best_by)
        if saved is None:
            raise VcvaeError(
                f"{run}: no best checkpoint here yet; a run with keep_best > 0 saves one at its first validation."
            )
        checkpoint.restore_weights(task, saved)
    model = task.released
    model.release(destination, card=model_card(type(model).__name__, model, saved, run), small=small)
    return saved["step"]


def model_card(kind: str, model: Any, saved: dict[str, Any], run: Path) -> str:
    """A model card in Markdown: how the weights were trained, and what their author has to add."""
    return (
        "---\nlibrary_name: vcvae\npipeline_tag: audio-to-audio\n---\n"
        f"# {kind}\n\n"
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters; "
        f"the sizes and the mel are in {CONFIG}.\n\n"
        f"## Training\n\nMade with {environment(run) or 'unknown versions'}.\n\n{training_section(saved)}\n"
        "## Licence, limits, use\n\n"
        "For its author to add: its licence, the source of its data, what it was not tested on, and whose consent its "
        "use needs.\n"
    )


def training_section(saved: dict[str, Any]) -> str:
    """What a card says of the run of a checkpoint, in Markdown: data, length, validation, and its configuration."""
    config, validation = saved_config(saved), saved["validation"]
    figures = ", ".join(f"{name} {value:.4g}" for name, value in validation["figures"].items())
    on_speakers = f"on the speakers of {config.data.dev}, at step {validation['step']:,}: {figures}"
    return (
        "| | |\n|---|---|\n"
        f"| data | {saved['corpus']} ({config.data.train}) |\n"
        "| command | `vcvae train config.yaml`, with the configuration below |\n"
        f"| length | {saved['step']:,} of {config.steps:,} steps |\n"
        f"| validation | {on_speakers if figures else 'none yet'} |\n\n"
        f"```yaml\n{saved['config']}```\n"
    )


def environment(run: Path) -> str:
    """The versions and the commit that a run was made with; empty where they were not recorded."""
    try:
        values = read_json(run / "environment.json", advice="remove it")
    except VcvaeError:  # missing or damaged: the card leaves it out
        return ""
    recorded = {name: shorten(str(value), 200) for name, value in values.items()}
    versions = ", ".join(f"{name} {recorded[name]}" for name in ("vcvae", "torch", "python") if name in recorded)
    if "git_commit" in recorded:
        changed = " with changes" if recorded.get("git_dirty") == "yes" else ""
        versions += f"; commit {recorded['git_commit'][:12]}{changed}"
    return versions
