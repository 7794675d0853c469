"""What a saved model or a training run is, from its files."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import safe_open

from vcvae.documents import read_text
from vcvae.errors import VcvaeError, reason, shorten
from vcvae.models import load_model
from vcvae.models.conversion.voice import Voice, is_voice
from vcvae.models.hub import CARD, CONFIG, WEIGHTS, fetch, fingerprint
from vcvae.models.hub import describe as read_config
from vcvae.models.quantize import SCALE_SUFFIX

CARD_LINES = 3
MAX_CARD_BYTES = 2**20

Description = list[tuple[str, str]]  # names and what there is to say of them, in the order to print


def describe(source: str | Path) -> Description:
    """The description of a voice's file, of a model (a folder or a Hugging Face repository) or of a run's folder.

    Raises:
        VcvaeError: it is none of these, or its files cannot be read.
    """
    if is_voice(source):
        return _describe_voice(Path(source))
    from vcvae.training import checkpoint

    folder = Path(source)
    has_run = any((folder / name).exists() for name in (checkpoint.NAME, checkpoint.PREVIOUS, "config.yaml"))
    if has_run and not (folder / CONFIG).exists():
        return _describe_run(folder)
    return _describe_model(source)


def _describe_model(source: str | Path) -> Description:
    name, config, config_file = read_config(source)
    weights = fetch(source, WEIGHTS)
    parameters, types = _count_parameters(weights)
    total = f"{parameters.total() / 1e6:.2f} M, {', '.join(types)}, {weights.stat().st_size / 1e6:.1f} MB"
    description = [("class", name), ("parameters", total)]
    description += [(f"  {part}", f"{count / 1e6:.2f} M") for part, count in parameters.most_common()]
    mel = config.pop("mel", {})
    if not isinstance(mel, dict):
        raise VcvaeError(f"{config_file}: 'mel' is wrong: it holds no keys (it is {shorten(repr(mel))}).")
    description += [("sizes", _list_values(config)), ("mel", _list_values(mel))]
    return description + _first_lines_of_card(source)


def _describe_voice(path: Path) -> Description:
    voice = Voice.load(path)
    card = voice.card
    fit = "the released one" if voice.fingerprint == fingerprint(load_model()) else card.model or "unknown"
    made = f"{card.steps} steps of fine-tuning" if voice.learned else "one pass"
    description = [
        ("voice", card.name or "unnamed"),
        ("consent", card.consent or "not stated"),
        ("note", card.note),
        ("model", f"{fit} ({voice.fingerprint})"),
        ("made", f"from {card.seconds:.1f} s of speech, in {made}"),
    ]
    mean = voice.f0_statistics.mean
    reference = f"{voice.reference.keys.shape[1]:,} frames"
    if not mean.isnan():
        reference += f", mean F0 {2 ** mean.item():.0f} Hz"
    description += [("reference", f"{reference}, {int(voice.valid_bands.sum())} valid bands")]
    if voice.learned:
        description += [("learned", voice.learned.summary())]
    return [*description, ("size", f"{path.stat().st_size / 1e6:.1f} MB")]


def _count_parameters(weights: Path) -> tuple[Counter, Counter]:
    """Parameters by the model's parts, and by number type; scales of quantized weights are not counted."""
    by_part, by_type = Counter(), Counter()
    try:
        with safe_open(weights, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dict)
                if name.endswith(SCALE_SUFFIX):
                    continue
                tensor = file.get_slice(name)
                count = math.prod(tensor.get_shape())
                by_part[name.split(".")[0]] += count
                by_type[tensor.get_dtype()] += count
    except Exception as error:  # safetensors has an exception of its own in Rust
        raise VcvaeError(f"{weights}: not weights in safetensors' format ({reason(error)}).") from None
    return by_part, by_type


def _first_lines_of_card(source: str | Path) -> Description:
    """The first lines of the model card that are not empty, without its front matter."""
    try:
        text = read_text(fetch(source, CARD), MAX_CARD_BYTES, advice="remove it")
    except VcvaeError:
        return []
    if text.startswith("---\n"):
        text = text[4:].partition("\n---\n")[2]
    lines = [line.lstrip("# ") for line in text.splitlines() if line.strip()]
    return [("card", "\n".join(lines[:CARD_LINES]))] if lines else []


def _describe_run(folder: Path) -> Description:
    from vcvae.training import checkpoint
    from vcvae.training.run_folder import read_figures, saved_config

    saved = checkpoint.load(folder, mmap=True)
    if saved is None:
        return [("run", f"{folder}: started, without a checkpoint yet")]
    config = saved_config(saved)
    description = [
        ("run of", config.task),
        ("step", f"{saved['step']:,} of {config.steps:,}"),
        ("examples", f"{saved['examples']:,}"),
        ("data", f"{saved['corpus']} ({config.data.train})"),
    ]
    last = {line["group"]: line for line in read_figures(folder)}
    for group, title in (("train", "training"), ("dev", "validation")):
        if group in last:
            line = last[group]
            figures = {name: f"{value:.4g}" for name, value in line.items() if name not in ("step", "group")}
            description.append((f"last {title}", f"step {line['step']:,}: {_list_values(figures)}"))
    best = sorted(path.name for path in (folder / checkpoint.BEST).glob("*.pt"))
    return [*description, ("best", f"{', '.join(best) or 'none'} ({config.best_by})")]


def _list_values(values: dict[str, Any]) -> str:
    texts = []
    for name, value in values.items():
        texts.append(f"{name} ({_list_values(value)})" if isinstance(value, dict) else f"{name} {shorten(str(value))}")
    return ", ".join(texts)
