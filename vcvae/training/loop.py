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

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from vcvae.data.examples import Examples
from vcvae.data.load import load
from vcvae.environment import environment
from vcvae.errors import VcvaeError, disk_errors
from vcvae.training import checkpoint
from vcvae.training.parallel import ParallelConfig, fit
from vcvae.training.run import RunConfig
from vcvae.training.task import Batch, Task
from vcvae.training.tasks import TASKS, parse

FREE_TO_CHANGE = {
    "output",
    "data",
    "steps",
    "workers",
    "log_every",
    "validate_every",
    "validation_speakers",
    "checkpoint_every",
    "optimizer",
}


def train(config: RunConfig | ParallelConfig, console: Console | None = None) -> Path:
    """Train as `config` says, or go on from where its output folder stands; returns that folder.

    Raises:
        VcvaeError: data that is not prepared, an output that holds a run of another configuration, a loss that
            is not finite (the last checkpoint stays).
    """
    console = console or Console()
    if isinstance(config, ParallelConfig):
        return fit(config, console)
    _require_tensorboard()
    return _Run(config, console).train()


class _Run:
    """A task, the optimizers of its players, and the step at which they stand."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self.config, self.console, self.folder = config, console, Path(config.output)
        self.accelerator = Accelerator(mixed_precision=config.precision)
        mel = config.model.mel
        self.data, self.dev = (
            load(
                place,
                batch=config.batch_speakers,
                segment=config.segment_frames * mel.hop,
                count=config.segments,
                sample_rate=mel.sample_rate,
                speeds=speeds,
                seed=config.seed,
            )
            for place, speeds in ((config.data.train, config.speeds), (config.data.dev, (1.0,)))
        )
        torch.manual_seed(config.seed)
        self.task = TASKS[config.task][1](config, self.data.voices)
        self.step = 0
        saved = checkpoint.load(self.folder)
        if saved:
            _require_same(config, parse(yaml.safe_load(saved["config"]), where=str(self.folder)), self.folder)
            if saved["voices"] != self.data.voices:
                raise VcvaeError(
                    f"{config.data.train}: holds {self.data.voices} voices, where the run in {self.folder} began with "
                    f"{saved['voices']}; give the same data, or another output."
                )
            self.task.load_state_dict(saved["task"])
            self.step = saved["step"]
            if self.accelerator.scaler and saved["scaler"]:
                self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.task.to(self.accelerator.device)
        self.players = self.task.players()
        self.optimizers = {}
        for name, parameters in self.players.items():
            optimizer = torch.optim.AdamW(
                parameters,
                lr=config.optimizer.learning_rate,
                betas=config.optimizer.betas,
                weight_decay=config.optimizer.weight_decay,
                fused=True,
            )
            if saved:
                optimizer.load_state_dict(saved["optimizers"][name])
            self.optimizers[name] = self.accelerator.prepare(optimizer)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.accelerator.is_main_process

    def train(self) -> Path:
        config, accelerator, console = self.config, self.accelerator, self.console
        mel = config.model.mel
        batches = _batches(self.data, config, accelerator, self.step)
        validation = [
            _to(default_collate([self.dev[n] for n in range(i, i + config.batch_speakers)]), accelerator.device)
            for i in range(0, config.validation_speakers, config.batch_speakers)
        ]
        log = self._begin() if self.leads else None
        frames = (
            config.batch_speakers
            * config.segments
            * config.segment_frames
            * config.accumulate
            * accelerator.num_processes
        )
        sums, since, began = defaultdict(float), 0, time.perf_counter()
        with _Stop() as stop, _progress(console, self.leads) as progress:
            bar = progress.add_task("training", total=config.steps, completed=self.step, rate="")
            stopping = False
            while self.step < config.steps and not stopping:
                for name, value in self._advance(batches).items():
                    sums[name] += value
                since += 1
                if log and self.step % config.log_every == 0:
                    means = {name: value / since for name, value in sums.items()}
                    means["frames_per_second"] = since * frames / (time.perf_counter() - began)
                    log.scalars("train", means | {"learning_rate": self._rate(self.step - 1)}, self.step)
                    progress.update(bar, rate=f"{means['frames_per_second']:,.0f} frames/s")
                    if not console.is_terminal:
                        console.print(_line(self.step, means), soft_wrap=True)
                if self.step % config.log_every == 0:
                    sums, since, began = defaultdict(float), 0, time.perf_counter()
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    if log:
                        found = self.task.validate(validation)
                        log.scalars("dev", found.figures, self.step)
                        log.mels(found.mels, mel, self.step)
                        log.sounds(found.sounds, mel.sample_rate, self.step)
                        console.print(_line(self.step, found.figures), soft_wrap=True)
                    accelerator.wait_for_everyone()
                    began = time.perf_counter()
                # All processes stop at one step, whichever of them was asked.
                if stop.asked:
                    accelerator.set_trigger()
                stopping = accelerator.check_trigger()
                if self.step % config.checkpoint_every == 0 or self.step == config.steps or stopping:
                    self._save()
                progress.update(bar, completed=self.step)
        if log:
            log.close()
            if self.step < config.steps:
                console.print(f"{self.folder}: stopped at step {self.step}; run the same command to go on.")
        accelerator.end_training()
        return self.folder

    def _begin(self) -> Log:
        """Make the run's folder, say what is about to happen, and open the log."""
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            values = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
            (self.folder / "config.yaml").write_text(values)
            (self.folder / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
            log = Log(self.folder, self.step)
        sizes = " + ".join(
            f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters ({name})"
            for name, parameters in self.players.items()
        )
        self.console.print(
            f"{self.folder}: {len(self.data.speakers)} speakers, "
            f"{self.data.samples / self.config.model.mel.sample_rate / 3600:.1f} h, {sizes} on "
            f"{self.accelerator.num_processes} × {self.accelerator.device.type}; "
            + (f"going on from step {self.step}." if self.step else "starting.")
        )
        return log

    def _rate(self, step: int) -> float:
        return self.config.optimizer.rate(step, self.config.steps)

    def _advance(self, batches: Iterator[Batch]) -> dict[str, float]:
        """One step of every player; the means of what was measured on the way."""
        config, accelerator, found = self.config, self.accelerator, defaultdict(float)
        for part in range(config.accumulate):
            _seed(config.seed, self.step * config.accumulate + part, accelerator.process_index)
            batch = _to(next(batches), accelerator.device)
            with accelerator.autocast():
                totals, terms = self.task(batch, self.step)
            for name, total in totals.items():
                if not torch.isfinite(total):
                    values = ", ".join(f"{term} {value.item():.3g}" for term, value in terms.items())
                    raise VcvaeError(
                        f"{self.folder}: the loss is not finite at step {self.step} ({values}); lower "
                        "optimizer.learning_rate and run the same command, to go on from the last checkpoint."
                    )
                terms[f"total_{name}"] = total.detach()
            last = list(totals)[-1]
            for name, total in totals.items():
                accelerator.backward(total / config.accumulate, inputs=self.players[name], retain_graph=name != last)
            for name, value in terms.items():
                found[name] += value.item() / config.accumulate
        for name in totals:
            found[f"gradient_{name}"] = self._descend(name)
        self.task.after_step()
        self.step += 1
        return found

    def _descend(self, name: str) -> float:
        """Step one player's optimizer along the gradient's mean over all processes; returns the gradient's norm."""
        optimizer, parameters = self.optimizers[name], self.players[name]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.accelerator.num_processes > 1:
            mean = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
            for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        self.accelerator.unscale_gradients(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.optimizer.clip)
        for group in optimizer.param_groups:
            group["lr"] = self._rate(self.step) * self.task.pace(name)
        optimizer.step()
        optimizer.zero_grad()
        return norm.item()

    def _save(self) -> None:
        if self.leads:
            state = {
                "task": self.task.state_dict(),
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
                "step": self.step,
                "voices": self.data.voices,
                "config": yaml.safe_dump(self.config.model_dump(mode="json")),
            }
            checkpoint.save(self.folder, state)
        self.accelerator.wait_for_everyone()


def load_run(folder: Path) -> tuple[RunConfig, Task]:
    """The configuration and the task of a run, as its last checkpoint has them.

    Raises:
        VcvaeError: no checkpoint in `folder`.
    """
    saved = checkpoint.load(folder)
    if saved is None:
        raise VcvaeError(f"{folder}: no checkpoint here; give the output folder of a training run.")
    config = parse(yaml.safe_load(saved["config"]), where=str(folder))
    task = TASKS[config.task][1](config, saved["voices"])
    task.load_state_dict(saved["task"])
    return config, task.eval()


def _require_tensorboard() -> None:
    if importlib.util.find_spec("tensorboard") is None:
        raise VcvaeError(
            "training writes TensorBoard logs; install vcvae with its extra 'train', or tensorboard alone."
        )


class Log:
    """TensorBoard's event files: scalars, mels as pictures and by Griffin-Lim, and sounds."""

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

    def sounds(self, sounds: dict[str, Tensor], sample_rate: int, step: int) -> None:
        """Samples (samples,), by name."""
        for name, samples in sounds.items():
            self.writer.add_audio(f"audio/{name}", samples / samples.abs().max(), step, sample_rate)

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


def _batches(data: Examples, config: RunConfig, accelerator: Accelerator, step: int) -> Iterator[Batch]:
    sampler = _Batches(
        config.batch_speakers, step * config.accumulate, accelerator.process_index, accelerator.num_processes
    )
    return iter(
        DataLoader(
            data,
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


def _to(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _require_same(config: RunConfig, saved: RunConfig, folder: Path) -> None:
    for key in type(config).model_fields:
        if key not in FREE_TO_CHANGE and getattr(saved, key, None) != getattr(config, key):
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
