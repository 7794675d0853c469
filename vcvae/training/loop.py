"""The training loop: any task, any device, one process or many, stopped and resumed at will.

Everything random in a step is drawn from (seed, step, process), and example n from (seed, n); a resumed run therefore
needs the weights, the optimizer's state, the step and the number of examples seen, and nothing else, to be the run that
was never stopped. It may go on with another number of processes: no example then comes twice or is left out.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vcvae.data.load import load
from vcvae.environment import environment, git_state
from vcvae.errors import VcvaeError, disk_errors
from vcvae.training import checkpoint
from vcvae.training.batches import ResumableBatchSampler, batches, first, is_a_killed_reader
from vcvae.training.config import RunConfig
from vcvae.training.log import Log, require_tensorboard
from vcvae.training.stopping import Stop, Stopped
from vcvae.training.task import Batch, Task
from vcvae.training.tasks import TASKS, parse
from vcvae.training.tasks.gmm import ParallelConfig, fit

BEGINNING = 64  # examples that a task may look at before the first step
FREE_TO_CHANGE = {
    "output",
    "data",
    "steps",
    "batch_speakers",
    "accumulate",
    "workers",
    "log_every",
    "validate_every",
    "validation_speakers",
    "checkpoint_every",
    "keep_best",
    "best_by",
    "optimizer",
}


def train(config: RunConfig | ParallelConfig, console: Console | None = None) -> Path:
    """Train as `config` says, or go on from where its output folder stands; returns that folder.

    Raises:
        VcvaeError: data that is not prepared, an output that holds a run of another configuration, a precision that
            cannot be had; and, with the last checkpoint as it was, so that the same command goes on from there: a loss
            that is not finite, a full disk, a process that read audio and was killed.
        Stopped: by Ctrl-C or SIGTERM; the step at hand is done and saved.
    """
    console = console or Console()
    if isinstance(config, ParallelConfig):
        return fit(config, console)
    require_tensorboard()
    return _Run(config, console).train()


class _Run:
    """A task, the optimizers of its parameter_groups, and the step at which they stand."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self.config, self.console, self.folder = config, console, Path(config.output)
        self.accelerator = _accelerator(config.precision)
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
                **options,
            )
            for place, speeds, options in (
                (config.data.train, config.speeds, config.data.to_learn_from),
                (config.data.dev, (1.0,), {}),
            )
        )
        torch.manual_seed(config.seed)
        self.task = TASKS[config.task][1](config, self.data.voices)
        self.step = self.examples = 0
        self.validation = {"step": 0, "figures": {}}
        saved = checkpoint.load(self.folder)
        if saved:
            _require_same(config, parse(yaml.safe_load(saved["config"]), where=str(self.folder)), self.folder)
            if saved["voices"] != self.data.voices:
                raise VcvaeError(
                    f"{config.data.train}: holds {self.data.voices} voices, where the run in {self.folder} began with "
                    f"{saved['voices']}; give the same data, or another output."
                )
            self.task.load_state_dict(saved["task"])
            self.step, self.examples, self.validation = saved["step"], saved["examples"], saved["validation"]
            if self.accelerator.scaler and saved["scaler"]:
                self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.task.to(self.accelerator.device)
        if not saved:
            self.task.begin(first(self.data, BEGINNING, size=config.batch_speakers, device=self.accelerator.device))
        self.parameter_groups = self.task.parameter_groups()
        self.optimizers = {}
        for name, parameters in self.parameter_groups.items():
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
        """Run to the end, or until `Stopped`."""
        log = self._begin() if self.leads else None
        try:
            self._steps(log)
        except RuntimeError as error:
            if not is_a_killed_reader(error):
                raise
            raise VcvaeError(
                f"{self.folder}: a process that reads audio was killed at step {self.step}, for want of memory "
                "perhaps; run the same command to go on from the last checkpoint (--set workers=0 reads without it)."
            ) from None
        stopped = self.step < self.config.steps
        if log:
            log.close()
            if stopped:
                self.console.print(f"{self.folder}: stopped at step {self.step}; run the same command to go on.")
        self.accelerator.end_training()
        if stopped:
            raise Stopped
        return self.folder

    def _steps(self, log: Log | None) -> None:
        config, accelerator, console = self.config, self.accelerator, self.console
        size, device = config.batch_speakers, accelerator.device
        places = {"process": accelerator.process_index, "processes": accelerator.num_processes}
        positions = ResumableBatchSampler(size, self.examples, **places)
        reading = batches(self.data, positions, workers=config.workers, device=device)
        unseen = list(first(self.dev, config.validation_speakers, size=size, device=device))
        frames = self.examples_a_step * config.segments * config.segment_frames
        sums, since, began = defaultdict(float), 0, time.perf_counter()
        with closing(reading), Stop() as stop, _progress(console, self.leads) as progress:
            bar = progress.add_task("training", total=config.steps, completed=self.step, rate="")
            stopping = False
            while self.step < config.steps and not stopping:
                for name, value in self._advance(reading).items():
                    sums[name] += value
                since += 1
                if self.step % config.log_every == 0:
                    means = self._mean({name: value / since for name, value in sums.items()})
                    if log:
                        means["frames_per_second"] = since * frames / (time.perf_counter() - began)
                        log.figures("train", means | {"learning_rate": self._rate(self.step - 1)}, self.step)
                        progress.update(bar, rate=f"{means['frames_per_second']:,.0f} frames/s")
                        if not console.is_terminal:
                            console.print(_line(self.step, means), soft_wrap=True)
                    sums, since, began = defaultdict(float), 0, time.perf_counter()
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    if log:
                        self._validate(unseen, log)
                    accelerator.wait_for_everyone()
                    began = time.perf_counter()
                # All processes stop at one step, whichever of them was asked.
                if stop.asked:
                    accelerator.set_trigger()
                stopping = accelerator.check_trigger()
                if self.step % config.checkpoint_every == 0 or self.step == config.steps or stopping:
                    if self.leads:
                        checkpoint.save(self.folder, self._state())
                    accelerator.wait_for_everyone()
                progress.update(bar, completed=self.step)

    @property
    def examples_a_step(self) -> int:
        """Of all processes together."""
        return self.config.batch_speakers * self.config.accumulate * self.accelerator.num_processes

    def _mean(self, values: dict[str, float]) -> dict[str, float]:
        """Over all processes."""
        mean = torch.tensor(list(values.values()), dtype=torch.float32, device=self.accelerator.device)
        return dict(zip(values, self.accelerator.reduce(mean, "mean").tolist(), strict=True))

    def _validate(self, unseen: list[Batch], log: Log) -> None:
        found = self.task.validate(unseen)
        self.validation = {"step": self.step, "figures": found.figures}
        log.findings(found, self.step)
        self.console.print(_line(self.step, found.figures), soft_wrap=True)
        checkpoint.save_best(self.folder, self._state(), keep=self.config.keep_best, by=self.config.best_by)

    def _begin(self) -> Log:
        """Make the run's folder, say what is about to happen, and open the log."""
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            values = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
            (self.folder / "config.yaml").write_text(values)
            (self.folder / "environment.json").write_text(json.dumps(environment() | git_state(), indent=2) + "\n")
        log = Log(self.folder, self.step, self.config.model.mel)
        sizes = " + ".join(
            f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters ({name})"
            for name, parameters in self.parameter_groups.items()
        )
        if self.step >= self.config.steps:
            checkpoint.save(self.folder, self._state())  # an export shall find the keys as they are given now
            stands = f"done, at step {self.step}."
        else:
            stands = f"going on from step {self.step}." if self.step else "starting."
        self.console.print(
            f"{self.folder}: {self._corpus()}, {sizes} on "
            f"{self.accelerator.num_processes} × {self.accelerator.device.type}; {stands}"
        )
        return log

    def _corpus(self) -> str:
        hours = self.data.samples / self.config.model.mel.sample_rate / 3600
        length = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
        return f"{len(self.data.speakers)} speakers, {length}"

    def _rate(self, step: int) -> float:
        return self.config.optimizer.rate(step, self.config.steps)

    def _advance(self, reading: Iterator[Batch]) -> dict[str, float]:
        """One step of every player; the means of what was measured on the way."""
        config, accelerator, found = self.config, self.accelerator, defaultdict(float)
        for part in range(config.accumulate):
            _seed(config.seed, self.step * config.accumulate + part, accelerator.process_index)
            batch = next(reading)
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
                accelerator.backward(
                    total / config.accumulate, inputs=self.parameter_groups[name], retain_graph=name != last
                )
            for name, value in terms.items():
                found[name] += value.item() / config.accumulate
        for name in totals:
            found[f"gradient_{name}"] = self._descend(name)
        self.task.after_step()
        self.step += 1
        self.examples += self.examples_a_step
        return found

    def _descend(self, name: str) -> float:
        """Step one player's optimizer along the gradient's mean over all processes; returns the gradient's norm."""
        optimizer, parameters = self.optimizers[name], self.parameter_groups[name]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.accelerator.num_processes > 1:
            mean = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
            for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        self.accelerator.unscale_gradients(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.optimizer.clip)
        for group in optimizer.param_groups:
            group["lr"] = self._rate(self.step) * self.task.lr_scale(name)
        optimizer.step()
        optimizer.zero_grad()
        return norm.item()

    def _state(self) -> dict[str, Any]:
        return {
            "task": self.task.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
            "step": self.step,
            "examples": self.examples,
            "voices": self.data.voices,
            "corpus": self._corpus(),
            "validation": self.validation,
            "config": yaml.safe_dump(self.config.model_dump(mode="json")),
        }


def load_run(folder: Path) -> tuple[RunConfig, Task]:
    """The configuration and the task of a run, as its last checkpoint has them.

    Raises:
        VcvaeError: no checkpoint in `folder`.
    """
    return load_task(last_state(folder), folder)


def last_state(folder: Path) -> dict[str, Any]:
    """What the last checkpoint of a run holds.

    Raises:
        VcvaeError: no checkpoint in `folder`.
    """
    saved = checkpoint.load(folder)
    if saved is None:
        raise VcvaeError(f"{folder}: no checkpoint here; give the output folder of a training run.")
    return saved


def load_task(saved: dict[str, Any], folder: Path) -> tuple[RunConfig, Task]:
    """The configuration and the task that a checkpoint of the run in `folder` describes."""
    config = parse(yaml.safe_load(saved["config"]), where=str(folder))
    task = TASKS[config.task][1](config, saved["voices"])
    task.load_state_dict(saved["task"])
    return config, task.eval()


def _seed(seed: int, batch: int, process: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence([seed, batch, process]).generate_state(1)[0]))


def _accelerator(precision: str) -> Accelerator:
    """Raises:
    VcvaeError: there is no such precision here, or a run before in this process had another.
    """
    here = torch.accelerator.is_available()
    if precision == "fp16" and not here:
        raise VcvaeError("precision: fp16 needs a GPU, and none is found; give bf16 or no.")
    try:
        # Where there is no accelerator, several processes are to find each other on the CPU.
        return Accelerator(mixed_precision=precision, cpu=not here)
    except ValueError as error:
        raise VcvaeError(
            f"precision: {precision} cannot be had ({error}); give another, or start a process of its own for each run."
        ) from None


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
