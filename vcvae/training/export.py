"""From a run's folder to a model that can be given away: weights, configuration, and a card that says how they came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vcvae.errors import VcvaeError
from vcvae.models.hub import CONFIG, check_vacant
from vcvae.training import checkpoint
from vcvae.training.config import RunConfig
from vcvae.training.loop import last_state, load_task


def export(run: Path, destination: Path, *, best: bool = False, small: bool = False, force: bool = False) -> int:
    """Write what a run has made as a model: safetensors, config.json, and a card; returns its step.

    The weights are float16, or, for a `small` one, bytes (`models.pretrained.quantize_int8`).

    It is the last checkpoint's, or that of the `best` validation. A README.md that is there already stays as it is:
    its author may have written on.

    Raises:
        VcvaeError: no run in `run`, no best checkpoint, a model in `destination`, or one that cannot be written.
    """
    check_vacant(destination, force)
    saved = last_state(run)
    config, task = load_task(saved, run)
    if best:
        saved = checkpoint.load_best(run, config.best_by)
        if saved is None:
            raise VcvaeError(
                f"{run}: no best checkpoint is kept here yet; a run with keep_best keeps it as it validates."
            )
        task.load_state_dict(saved["task"])
    model = task.released
    model.release(destination, card=card(type(model).__name__, model, saved, config, run), small=small)
    return saved["step"]


def card(kind: str, model: Any, saved: dict[str, Any], config: RunConfig, run: Path) -> str:
    """A model card in Markdown: what is known of how the weights were made, and what only their author can add."""
    seen = saved["validation"]
    figures = "".join(f"| {name} | {value:.4g} |\n" for name, value in seen["figures"].items())
    made = _environment(run)
    versions = ", ".join(f"{name} {made[name]}" for name in ("vcvae", "torch", "python") if name in made)
    if "git_commit" in made:
        versions += f"; commit {made['git_commit'][:12]}" + (" with changes" if made["git_dirty"] == "yes" else "")
    return (
        "---\nlibrary_name: vcvae\npipeline_tag: audio-to-audio\n---\n"
        f"# {kind}\n\n"
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters; "
        f"the sizes and the mel are in {CONFIG}.\n\n"
        "## Training\n\n| | |\n|---|---|\n"
        f"| data | {saved['corpus']} ({config.data.train}) |\n"
        f"| command | `vcvae train config.yaml`, with the configuration below |\n"
        f"| length | {saved['step']:,} of {config.steps:,} steps |\n"
        f"| made with | {versions or 'not known'} |\n\n"
        "## Validation\n\n"
        + (
            f"On unseen speakers ({config.data.dev}), at step {seen['step']:,}:\n\n| figure | value |\n|---|---|\n"
            f"{figures}"
            if figures
            else "None was made yet.\n"
        )
        + "\n## Licence, limits, use\n\n"
        "For its author to add: under what licence it is given, where its data come from, what it was not tried on, "
        "and whose consent its use needs.\n\n"
        f"## Configuration\n\n```yaml\n{saved['config']}```\n"
    )


def _environment(run: Path) -> dict[str, str]:
    try:
        return json.loads((run / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
