"""What a saved model, or a training run, is: for people who find a folder and wonder."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import yaml
from safetensors import safe_open

from vcvae.errors import VcvaeError
from vcvae.models.hub import CONFIG, SCALE_SUFFIX, WEIGHTS, fetch
from vcvae.models.hub import describe as read_config
from vcvae.models.packed import DIGITS, PER_BYTE

CARD_LINES = 3


def describe(source: str | Path) -> list[tuple[str, str]]:
    """Name → what there is to say, of a model (a folder or a Hugging Face repository) or of a run's folder.

    Raises:
        VcvaeError: it is neither, or what is there cannot be read.
    """
    from vcvae.training import checkpoint

    folder = Path(source)
    is_run = not (folder / CONFIG).exists() and any((folder / x).exists() for x in (checkpoint.NAME, "config.yaml"))
    return _run(folder) if is_run else _model(source)


def _model(source: str | Path) -> list[tuple[str, str]]:
    kind, values, _ = read_config(source)
    weights = fetch(source, WEIGHTS)
    parts, types = Counter(), Counter()
    try:
        with safe_open(weights, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dict)
                if name.endswith(SCALE_SUFFIX):
                    continue
                held = file.get_slice(name)
                count = math.prod(held.get_shape()) * (PER_BYTE if name.endswith(f".{DIGITS}") else 1)
                parts[name.split(".")[0]] += count
                types[held.get_dtype()] += count
    except Exception as error:  # safetensors has an exception of its own in Rust
        raise VcvaeError(f"{weights}: not weights in safetensors' format ({str(error).splitlines()[0]}).") from None
    mel = values.pop("mel", {})
    found = [
        ("class", kind),
        ("parameters", f"{parts.total() / 1e6:.2f} M, {', '.join(types)}, {weights.stat().st_size / 1e6:.1f} MB"),
        *((f"  {name}", f"{count / 1e6:.2f} M") for name, count in parts.most_common()),
        ("sizes", _listed(values)),
        ("mel", _listed(mel)),
    ]
    return found + _card(source)


def _card(source: str | Path) -> list[tuple[str, str]]:
    """The first lines of the card that say something, without its front matter."""
    try:
        text = fetch(source, "README.md").read_text(encoding="utf-8")
    except (VcvaeError, OSError, UnicodeDecodeError):
        return []
    if text.startswith("---\n"):
        text = text[4:].partition("\n---\n")[2]
    lines = [line.lstrip("# ") for line in text.splitlines() if line.strip()]
    return [("card", "\n".join(lines[:CARD_LINES]))] if lines else []


def _run(folder: Path) -> list[tuple[str, str]]:
    from vcvae.training import checkpoint
    from vcvae.training.log import read

    saved = checkpoint.load(folder, mmap=True)
    if saved is None:
        return [("run", f"{folder}: begun, and no checkpoint was written yet")]
    config = yaml.safe_load(saved["config"])
    kept = sorted(path.name for path in (folder / checkpoint.BEST).glob("*.pt"))
    found = [
        ("run of", config["task"]),
        ("step", f"{saved['step']:,} of {config['steps']:,}"),
        ("examples", f"{saved['examples']:,}"),
        ("data", f"{saved['corpus']} ({config['data']['train']})"),
    ]
    last = {line["group"]: line for line in read(folder)}
    for group, name in (("train", "training"), ("dev", "validation")):
        if line := last.get(group):
            figures = {key: f"{value:.4g}" for key, value in line.items() if key not in ("step", "group")}
            found.append((f"last {name}", f"step {line['step']:,}: {_listed(figures)}"))
    return [*found, ("best", f"{', '.join(kept) or 'none'} ({config['best_by']})")]


def _listed(values: dict) -> str:
    texts = {name: f"({_listed(value)})" if isinstance(value, dict) else value for name, value in values.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())
