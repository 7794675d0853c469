"""The training loop: any task, any device, one process or many, stopped and resumed at will.

Everything random in a step is drawn from (seed, step, process), and so is the batch; a resumed run therefore needs the
weights, the optimizer's state and the step, and nothing else, to be the run that was never stopped.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from vcvae.data.segments import SegmentPairs
from vcvae.environment import environment
from vcvae.errors import VcvaeError, disk_errors
from vcvae.training import checkpoint
from vcvae.training.conversion import ConversionConfig, ConversionTask
from vcvae.training.run import RunConfig

TASKS = {"conversion": (ConversionConfig, ConversionTask)}
FREE_TO_CHANGE = {
    "output",
    "data",
    "steps",
    "workers",
    "log_every",
    "validate_every",
    "validation_pairs",
    "checkpoint_every",
    "optimizer",
}


def parse(values: dict[str, Any], *, where: str) -> RunConfig:
    """The configuration that nested `values` describe; their `task` says of which kind.

    Raises:
        VcvaeError: an unknown task, an unknown key, a wrong value.
    """
    name = values.get("task")
    if not isinstance(name, str) or name not in TASKS:
        raise VcvaeError(f"{where}: the key 'task' must be one of: {', '.join(TASKS)} (it is {name!r}).")
    return TASKS[name][0].parse(values, where=where)


def train(config: RunConfig, console: Console | None = None) -> Path:
    """Train as `config` says, or go on from where its output folder stands; returns that folder.

    Raises:
        VcvaeError: data that is not prepared, an output that holds a run of another configuration, a loss that
            is not finite (the last checkpoint stays).
    """
    console = console or Console()
    _require_tensorboard()
    accelerator = Accelerator(mixed_precision=config.precision, gradient_accumulation_steps=config.accumulate)
    torch.manual_seed(config.seed)
    task = TASKS[config.task][1](config)
    optimizer = torch.optim.AdamW(
        [p for p in task.parameters() if p.requires_grad],
        lr=config.optimizer.learning_rate,
        betas=config.optimizer.betas,
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )
    folder = Path(config.output)
    saved = checkpoint.load(folder)
    step = 0
    if saved:
        _require_same(config, yaml.safe_load(saved["config"]), folder)
        task.load_state_dict(saved["task"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
        if accelerator.scaler and saved["scaler"]:
            accelerator.scaler.load_state_dict(saved["scaler"])
    mel = config.model.mel
    segment = config.segment_frames * mel.hop
    pairs = SegmentPairs(config.data.train, segment=segment, sample_rate=mel.sample_rate, seed=config.seed)
    dev = SegmentPairs(config.data.dev, segment=segment, sample_rate=mel.sample_rate, seed=config.seed)
    task, optimizer = accelerator.prepare(task, optimizer)
    bare = accelerator.unwrap_model(task)
    batches = _batches(pairs, config, accelerator, step)
    validation = [
        _to(default_collate([dev[n] for n in range(i, i + config.batch_pairs)]), accelerator.device)
        for i in range(0, config.validation_pairs, config.batch_pairs)
    ]

    log = None
    if accelerator.is_main_process:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
            (folder / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
            log = Log(folder, step)
        console.print(
            f"{folder}: {len(pairs.speakers)} speakers, {pairs.samples / mel.sample_rate / 3600:.1f} h, "
            f"{sum(p.numel() for p in bare.parameters() if p.requires_grad) / 1e6:.2f} M parameters on "
            f"{accelerator.num_processes} × {accelerator.device.type}; "
            + (f"going on from step {step}." if step else "starting.")
        )

    def save() -> None:
        if accelerator.is_main_process:
            state = {
                "task": bare.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
                "step": step,
                "config": yaml.safe_dump(config.model_dump(mode="json")),
            }
            checkpoint.save(folder, state)
        accelerator.wait_for_everyone()

    frames_per_step = 2 * config.batch_pairs * config.segment_frames * config.accumulate * accelerator.num_processes
    sums, since, began = defaultdict(float), 0, time.perf_counter()
    with _Stop() as stop, _progress(console, accelerator.is_main_process) as progress:
        bar = progress.add_task("training", total=config.steps, completed=step, rate="")
        stopping = False
        while step < config.steps and not stopping:
            for group in optimizer.param_groups:
                group["lr"] = config.optimizer.rate(step, config.steps)
            for part in range(config.accumulate):
                _seed(config.seed, step * config.accumulate + part, accelerator.process_index)
                batch = _to(next(batches), accelerator.device)
                with accelerator.accumulate(task), accelerator.autocast():
                    total, terms = task(batch, step)
                    if not torch.isfinite(total):
                        values = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
                        raise VcvaeError(
                            f"{folder}: the loss is not finite at step {step} ({values}); lower "
                            "optimizer.learning_rate and run the same command, to go on from the last checkpoint."
                        )
                    accelerator.backward(total)
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(task.parameters(), config.optimizer.clip)
                    optimizer.step()
                    optimizer.zero_grad()
                for name, value in (terms | {"total": total.detach()}).items():
                    sums[name] += value.item() / config.accumulate
            bare.after_step()
            step += 1
            since += 1
            if log and step % config.log_every == 0:
                rate = since * frames_per_step / (time.perf_counter() - began)
                means = {name: value / since for name, value in sums.items()}
                scalars = means | {"gradient_norm": norm.item(), "frames_per_second": rate}
                log.scalars("train", scalars | {"learning_rate": optimizer.param_groups[0]["lr"]}, step)
                progress.update(bar, rate=f"{rate:,.0f} frames/s", description=f"loss {means['total']:.3f}")
                if not console.is_terminal:
                    console.print(_line(step, scalars), soft_wrap=True)
            if step % config.log_every == 0:
                sums, since, began = defaultdict(float), 0, time.perf_counter()
            if step % config.validate_every == 0 or step == config.steps:
                if log:
                    figures, mels = bare.validate(validation)
                    log.scalars("dev", figures, step)
                    log.mels(mels, mel, step)
                    console.print(_line(step, figures), soft_wrap=True)
                accelerator.wait_for_everyone()
                began = time.perf_counter()
            # All processes stop at one step, whichever of them was asked.
            if stop.asked:
                accelerator.set_trigger()
            stopping = accelerator.check_trigger()
            if step % config.checkpoint_every == 0 or step == config.steps or stopping:
                save()
            progress.update(bar, completed=step)
    if log:
        log.close()
        if step < config.steps:
            console.print(f"{folder}: stopped at step {step}; run the same command to go on.")
    accelerator.end_training()
    return folder


def load_run(folder: Path) -> tuple[RunConfig, torch.nn.Module]:
    """The configuration and the task of a run, as its last checkpoint has them.

    Raises:
        VcvaeError: no checkpoint in `folder`.
    """
    saved = checkpoint.load(folder)
    if saved is None:
        raise VcvaeError(f"{folder}: no checkpoint here; give the output folder of a training run.")
    config = parse(yaml.safe_load(saved["config"]), where=str(folder))
    task = TASKS[config.task][1](config)
    task.load_state_dict(saved["task"])
    return config, task.eval()


def _require_tensorboard() -> None:
    if importlib.util.find_spec("tensorboard") is None:
        raise VcvaeError(
            "training writes TensorBoard logs; install vcvae with its extra 'train', or tensorboard alone."
        )


class Log:
    """TensorBoard's event files: scalars, mel pictures, and audio by Griffin-Lim."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)

    def mels(self, mels: dict[str, Tensor], config, step: int) -> None:
        """Log-mels (n_mels, frames), by name."""
        from vcvae.vocoder.griffin_lim import GriffinLim

        vocoder = GriffinLim(config)
        for name, mel in mels.items():
            mel = mel.cpu()
            grey = ((mel - mel.min()) / (mel.max() - mel.min())).flip(0)
            self.writer.add_image(f"mel/{name}", grey[None], step)
            samples = vocoder(mel[None])
            self.writer.add_audio(f"audio/{name}", samples / samples.abs().max(), step, config.sample_rate)

    def close(self) -> None:
        self.writer.close()


class _Batches(Sampler):
    """The example numbers of each batch of one process, from a step on, without end."""

    def __init__(self, size: int, start: int, process: int, processes: int) -> None:
        self.size, self.start, self.process, self.processes = size, start, process, processes

    def __iter__(self) -> Iterator[range]:
        batch = self.start * self.processes + self.process
        while True:
            yield range(batch * self.size, (batch + 1) * self.size)
            batch += self.processes


def _batches(
    pairs: SegmentPairs, config: RunConfig, accelerator: Accelerator, step: int
) -> Iterator[dict[str, Tensor]]:
    sampler = _Batches(
        config.batch_pairs, step * config.accumulate, accelerator.process_index, accelerator.num_processes
    )
    return iter(
        DataLoader(
            pairs,
            batch_sampler=sampler,
            num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
            pin_memory=accelerator.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_parent,
        )
    )


def _leave_signals_to_the_parent(_worker: int) -> None:
    # Ctrl-C reaches the whole process group; readers must live on until the step at hand is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _seed(seed: int, batch: int, process: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence([seed, batch, process]).generate_state(1)[0]))


def _to(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _require_same(config: RunConfig, saved: dict, folder: Path) -> None:
    for key, value in config.model_dump(mode="json").items():
        if key not in FREE_TO_CHANGE and saved.get(key) != value:
            raise VcvaeError(
                f"{folder}: holds a run whose '{key}' differs from this configuration's; "
                "choose another output, or restore the key to go on."
            )


def _line(step: int, values: dict[str, float]) -> str:
    return f"step {step:>7}  " + "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def _progress(console: Console, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not (shown and console.is_terminal),
    )


class _Stop:
    """Turns the first Ctrl-C or SIGTERM into a request to stop after the step at hand."""

    def __enter__(self) -> _Stop:
        self.asked = False
        self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, _frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_exc) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
