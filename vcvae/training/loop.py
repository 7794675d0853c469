"""The training loop: any task, any device, one or several processes, resumable.

All randomness in a step depends on (seed, step, process) only, and example n of the data on (seed, n). A resumed run
therefore needs only the weights, the optimizer states, the step, and the number of examples used so far to equal an
uninterrupted one. It may resume with another number of processes: no example is repeated or omitted.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.console import Console

from vcvae.data.load import load
from vcvae.documents import dump_yaml
from vcvae.environment import environment, git_state, launched_processes
from vcvae.errors import UNFINISHED, VcvaeError, check_folder, disk_errors, reason, replacing
from vcvae.training import checkpoint
from vcvae.training.batches import ResumableBatchSampler, batches, first_batches, is_killed_worker
from vcvae.training.config import RunConfig
from vcvae.training.log import Log, require_tensorboard
from vcvae.training.progress import format_figures, progress_bar
from vcvae.training.run_folder import saved_config
from vcvae.training.stopping import Stopped, StopRequest
from vcvae.training.task import Batch
from vcvae.training.tasks import TASKS

SETUP_EXAMPLES = 64  # examples that a task sees in its setup, before the first step


def train(config: RunConfig, console: Console | None = None) -> Path:
    """Train `config`, or resume the run in its output folder; returns that folder.

    Raises:
        VcvaeError: the data are not prepared, the output folder holds a run of another configuration, or the precision
            is not available. Also, with the last checkpoint intact so that the same command resumes: a loss is not
            finite, the disk is full, or a process that reads audio was killed.
        Stopped: by Ctrl-C or SIGTERM, after the current step was completed and saved.
    """
    require_tensorboard()
    return Trainer(config, console or Console(markup=False, highlight=False)).train()


class Trainer:
    """A task, one optimizer for each of its parameter groups, and the state of the run."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self.config, self.console, self.folder = config, console, Path(config.output)
        self.accelerator = _make_accelerator(config.precision)
        self.data = self._load_data(config.data.train, speeds=config.speeds, parallel=config.uses_parallel)
        self.dev = self._load_data(config.data.dev, speeds=(1.0,))
        torch.manual_seed(config.seed)
        self.task = TASKS[config.task][1](config, self.data.voices)
        self.step = 0
        self.examples = 0  # used so far, by all processes together
        self.validation = {"step": 0, "figures": {}}
        self.unlogged = {"count": 0, "sums": {}}  # figures of the steps since the last line of the log
        saved = checkpoint.load(self.folder)
        if saved:
            self._resume(saved)
        self.task.to(self.accelerator.device)
        if not saved:
            device = self.accelerator.device
            self.task.setup(first_batches(self.data, SETUP_EXAMPLES, size=config.batch_speakers, device=device))
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
                checkpoint.restore_optimizer(optimizer, name, parameters, saved)
            self.optimizers[name] = self.accelerator.prepare(optimizer)

    def _load_data(self, place: str, **options: Any):
        config = self.config
        return load(
            place,
            batch=config.batch_speakers,
            segment=config.segment_frames * config.model.mel.hop,
            count=config.segments,
            sample_rate=config.model.mel.sample_rate,
            seed=config.seed,
            **options,
        )

    def _resume(self, saved: dict[str, Any]) -> None:
        config = self.config
        _require_same(config, saved_config(saved), self.folder)
        if saved["voices"] != self.data.voices:
            raise VcvaeError(
                f"{config.data.train}: holds {self.data.voices} voices, but the run in {self.folder} was started with "
                f"{saved['voices']}; give the same data, or another output."
            )
        checkpoint.restore_weights(self.task, saved)
        self.step, self.examples, self.validation = saved["step"], saved["examples"], saved["validation"]
        self.unlogged = saved["unlogged"]
        scaler = self.accelerator.scaler
        if scaler and saved["scaler"] and saved["scaler"].keys() == scaler.state_dict().keys():
            scaler.load_state_dict(saved["scaler"])

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that validates, logs and saves."""
        return self.accelerator.is_main_process

    def train(self) -> Path:
        """Run to the last step, or until `Stopped`; returns the run's folder."""
        if self.step >= self.config.steps:  # nothing is written: the folder stays as it was when it was trained
            self._say(f"done, at step {self.step}.")
            return self.folder
        log = self._start() if self.is_main else None
        try:
            self._run_steps(log)
        except RuntimeError as error:
            if not is_killed_worker(error):
                raise
            raise VcvaeError(
                f"{self.folder}: a process that reads audio was killed at step {self.step}, perhaps for lack of "
                "memory; run the same command to resume from the last checkpoint (--set workers=0 reads without it)."
            ) from None
        stopped = self.step < self.config.steps
        if log:
            log.close()
            if stopped:
                self._say(f"stopped at step {self.step}; run the same command to resume.")
        self.accelerator.end_training()
        if stopped:
            raise Stopped
        return self.folder

    def _run_steps(self, log: Log | None) -> None:
        config, accelerator, console = self.config, self.accelerator, self.console
        size, device = config.batch_speakers, accelerator.device
        sampler = ResumableBatchSampler(
            size, self.examples, process=accelerator.process_index, processes=accelerator.num_processes
        )
        train_batches = batches(self.data, sampler, workers=config.workers, device=device)
        dev_batches = list(first_batches(self.dev, config.validation_speakers, size=size, device=device))
        frames_per_step = self.examples_per_step * config.segments * config.segment_frames
        timed, start = 0, time.perf_counter()
        with (
            closing(train_batches),
            StopRequest() as stop,
            progress_bar(console, visible=self.is_main) as progress,
        ):
            bar = progress.add_task("training", total=config.steps, completed=self.step, rate="")
            stopping = False
            while self.step < config.steps and not stopping:
                sums = self.unlogged["sums"]
                for name, value in self._take_step(train_batches).items():
                    sums[name] = sums.get(name, 0.0) + value
                self.unlogged["count"] += 1
                timed += 1
                if self.step % config.log_every == 0:
                    means = self._mean_over_processes(
                        {name: value / self.unlogged["count"] for name, value in sums.items()}
                    )
                    if log:
                        log.figures("train", means | {"learning_rate": self._learning_rate(self.step - 1)}, self.step)
                        speed = timed * frames_per_step / (time.perf_counter() - start)
                        log.speed(speed, self.step)
                        progress.update(bar, rate=f"{speed:,.0f} frames/s")
                        if not console.is_terminal:
                            figures = format_figures(self.step, means | {"frames_per_second": speed})
                            console.print(figures, soft_wrap=True)
                    self.unlogged = {"count": 0, "sums": {}}
                    timed, start = 0, time.perf_counter()
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    if log:
                        self._validate(dev_batches, log)
                    accelerator.wait_for_everyone()
                    timed, start = 0, time.perf_counter()
                # All processes must stop at the same step, whichever of them received the signal.
                if stop.requested:
                    accelerator.set_trigger()
                stopping = accelerator.check_trigger()
                if self.step % config.checkpoint_every == 0 or self.step == config.steps or stopping:
                    self.unlogged["sums"] = self._mean_over_processes(self.unlogged["sums"])
                    if self.is_main:
                        checkpoint.save(self.folder, self._state())
                    accelerator.wait_for_everyone()
                progress.update(bar, completed=self.step)

    @property
    def examples_per_step(self) -> int:
        """Examples that all processes together use in one optimizer step."""
        return self.config.batch_speakers * self.config.accumulate * self.accelerator.num_processes

    def _mean_over_processes(self, values: dict[str, float]) -> dict[str, float]:
        of_processes = gather_object([values])
        return {name: math.fsum(each[name] for each in of_processes) / len(of_processes) for name in values}

    def _validate(self, dev_batches: list[Batch], log: Log) -> None:
        result = self.task.validate(dev_batches)
        self.validation = {"step": self.step, "figures": result.figures}
        log.validation(result, self.step)
        self.console.print(format_figures(self.step, result.figures), soft_wrap=True)
        checkpoint.save_best(self.folder, self._state(), keep=self.config.keep_best, by=self.config.best_by)

    def _start(self) -> Log:
        """Make the run's folder, print a summary of the run, and open the log."""
        check_folder(self.folder)
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for unfinished in self.folder.rglob(f".*{UNFINISHED}"):  # of a process that was killed while it wrote
                unfinished.unlink()
        with replacing(self.folder / "config.yaml") as file:
            file.write(dump_yaml(self.config.model_dump(mode="json")).encode())
        with replacing(self.folder / "environment.json") as file:
            file.write((json.dumps(environment() | git_state(), indent=2) + "\n").encode())
        log = Log(self.folder, self.step, self.config.model.mel)
        sizes = " + ".join(
            f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters ({name})"
            for name, parameters in self.parameter_groups.items()
        )
        status = f"resuming at step {self.step}." if self.step else "starting."
        self._say(
            f"{self._corpus_size()}, {sizes} on "
            f"{self.accelerator.num_processes} × {self.accelerator.device.type}; {status}"
        )
        return log

    def _say(self, text: str) -> None:
        if self.is_main:
            self.console.print(f"{self.folder}: {text}")

    def _corpus_size(self) -> str:
        hours = self.data.samples / self.config.model.mel.sample_rate / 3600
        length = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
        return f"{len(self.data.speakers)} speakers, {length}"

    def _learning_rate(self, step: int) -> float:
        return self.config.optimizer.learning_rate_at(step, self.config.steps)

    def _take_step(self, train_batches: Iterator[Batch]) -> dict[str, float]:
        """One step of every optimizer; returns the loss terms and gradient norms by name."""
        config, accelerator, measured = self.config, self.accelerator, defaultdict(float)
        for part in range(config.accumulate):
            _seed(config.seed, self.step * config.accumulate + part, accelerator.process_index)
            batch = next(train_batches)
            with accelerator.autocast():
                totals, terms = self.task(batch, self.step)
            for name, total in totals.items():
                if not torch.isfinite(total):
                    values = ", ".join(f"{term} {value.item():.3g}" for term, value in terms.items())
                    raise VcvaeError(
                        f"{self.folder}: the loss is not finite at step {self.step} ({values}); lower "
                        "optimizer.learning_rate and run the same command to resume from the last checkpoint."
                    )
                terms[f"total_{name}"] = total.detach()
            last = list(totals)[-1]
            for name, total in totals.items():
                accelerator.backward(
                    total / config.accumulate, inputs=self.parameter_groups[name], retain_graph=name != last
                )
            for name, value in terms.items():
                measured[name] += value.item() / config.accumulate
        for name in totals:
            measured[f"gradient_{name}"] = self._update(name)
        self.task.after_step()
        self.step += 1
        self.examples += self.examples_per_step
        return measured

    def _update(self, name: str) -> float:
        """Step the optimizer of a parameter group with the mean gradient of all processes; returns its norm."""
        optimizer, parameters = self.optimizers[name], self.parameter_groups[name]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.accelerator.num_processes > 1:
            mean = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
            for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        self.accelerator.unscale_gradients(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.optimizer.clip)
        for group in optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step) * self.task.lr_scale(name)
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
            "corpus": self._corpus_size(),
            "validation": self.validation,
            "unlogged": self.unlogged,
            "config": dump_yaml(self.config.model_dump(mode="json")),
        }


def _seed(seed: int, batch: int, process: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence([seed, batch, process]).generate_state(1)[0]))


def _make_accelerator(precision: str) -> Accelerator:
    """Raises:
    VcvaeError: the precision is not available, or an earlier run in this process used another; or the environment
        holds variables of accelerate or of a launcher that it cannot use.
    """
    launched_processes()
    has_accelerator = torch.accelerator.is_available()
    if precision == "fp16" and not has_accelerator:
        raise VcvaeError("precision: fp16 needs a GPU, and none is available; give bf16 or no.")
    try:
        # Without a GPU, several processes communicate on the CPU.
        return Accelerator(mixed_precision=precision, cpu=not has_accelerator)
    except ValueError as error:
        raise VcvaeError(
            f"precision: {precision} is not available ({reason(error)}); give another, or start each run in its own "
            "process; or a launcher's variable in the environment (ACCELERATE_…, OMPI_…, PMI_…) is wrong."
        ) from None
    except Exception as error:  # of whatever the variables ask for, such as a package that is not installed
        raise VcvaeError(
            f"accelerate cannot start ({reason(error)}); unset the variables ACCELERATE_… and RANK in the environment."
        ) from None


def _require_same(config: RunConfig, saved: RunConfig, folder: Path) -> None:
    """Check that only keys differ whose fields are marked `may_change`.

    Raises:
        VcvaeError: another key differs.
    """
    fields = RunConfig.model_fields.items()
    may_change = {key for key, field in fields if (field.json_schema_extra or {}).get("may_change")}
    for key in type(config).model_fields:
        if key not in may_change and getattr(saved, key, None) != getattr(config, key):
            raise VcvaeError(
                f"{folder}: holds a run with another value of '{key}' than this configuration; "
                "choose another output, or restore the key to resume."
            )
