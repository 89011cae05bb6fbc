"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqsru.training import checkpoints
from seqsru.training.interrupt import Interrupt
from seqsru.training.options import TrainingOptions
from seqsru.training.progress import Outcome, Progress, restore_training, training_tensors
from seqsru.training.report import Report
from seqsru.training.run_directory import exclusive
from seqsru.training.schedules import Position, Schedule
from seqsru.training.task import State, Task


class TrainingDiverged(ValueError):
    """The gradient is no longer finite."""


class Trainer:
    """Train a model in a run directory, going on from its newest checkpoint if there is one.

    The gradient of an update is that of the loss summed over the batches of the update, divided once by their
    tokens (or rows), then clipped. A run that is killed and started again ends with the same bits as one that
    was not.

    Parameters
    ----------
    model : nn.Module
    task : Task
    optimizer : torch.optim.Optimizer
    schedule : Schedule
    directory : Path
        The run directory; one process at a time.
    options : TrainingOptions
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        directory: Path,
        options: TrainingOptions,
    ) -> None:
        self.model, self.task, self.optimizer, self.schedule = model, task, optimizer, schedule
        self.directory, self.options = directory, options
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.progress = Progress()
        self.carried: State | None = None
        self._validation: dict[str, Any] | None = None  # the validation of this very state, if there was one
        self._saved: Path | None = None  # its checkpoint, if it was written
        self._started = self._logged = 0.0

    def fit(self) -> Outcome:
        """Train until the end, or until a signal asks to stop; either way the last state is on disk.

        Raises
        ------
        BlockingIOError
            Another process trains in the directory.
        TrainingDiverged
            A gradient is not finite.
        """
        with exclusive(self.directory), Interrupt() as interrupt:
            if self.options.threads:
                torch.set_num_threads(self.options.threads)
            self._resume()
            self._logged = time.monotonic()
            self._started = self._logged - self.progress.seconds
            total = self._total_steps()
            with Report(
                self.directory,
                self.progress.records,
                self.progress.step,
                total,
                tensorboard=self.options.tensorboard,
            ) as report:
                reason = self._loop(total, interrupt, report)
                if reason != "interrupted" and self._validation is None:
                    self._validate(report)
                if self._saved is None:
                    self._saved = self._save()
                report.say(f"stopped at step {self.progress.step}: {reason}")
                progress = self.progress
                return Outcome(reason, progress.step, progress.best, progress.best_step, self._saved)

    def _loop(self, total: int, interrupt: Interrupt, report: Report) -> str:
        self.model.train()
        while (reason := self._reason(interrupt)) is None:
            for group in self._groups():
                self._update(group, total, report)
                if self.options.validate_every and self.progress.step % self.options.validate_every == 0:
                    self._validate(report)
                    self._saved = self._save()
                elif self.options.save_every and self.progress.step % self.options.save_every == 0:
                    self._saved = self._save()
                if (reason := self._reason(interrupt)) is not None:
                    return reason
            self.progress.epoch, self.progress.batch, self.carried = self.progress.epoch + 1, 0, None
            self._saved = None
            if not self.options.validate_every:
                self._validate(report)
                self._saved = self._save()
        return reason

    def _reason(self, interrupt: Interrupt) -> str | None:
        """Why training should end now, if it should."""
        if self.options.steps and self.progress.step >= self.options.steps:
            return "steps"
        if self.options.epochs and self.progress.epoch > self.options.epochs:
            return "epochs"
        if self.options.patience and self.progress.waited >= self.options.patience:
            return "patience"
        if self.options.max_minutes and self._seconds() >= 60.0 * self.options.max_minutes:
            return "time"
        return "interrupted" if interrupt.requested else None

    def _groups(self) -> Iterator[list[Any]]:
        """What is left of the epoch, as the batches of each update."""
        batches = self.task.batches(self.progress.epoch, self.progress.batch)
        while group := list(islice(batches, self.options.accumulate)):
            yield group

    def _update(self, group: list[Any], total: int, report: Report) -> None:
        progress = self.progress
        rate = self.schedule.rate(Position(progress.step + 1, progress.epoch, total))
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        divisor, tokens, nll = 0, 0, 0.0
        for batch in group:
            with self._autocast():
                result = self.task.loss(self.model, batch, self.carried)
            result.loss.backward()
            self.carried = tuple(t.detach() for t in result.carried)
            nll += result.nll.item()
            tokens += result.tokens
            divisor += result.tokens if self.options.normalize == "tokens" else result.rows
        norm = self._scale_gradients(divisor)
        self.optimizer.step()
        self.optimizer.zero_grad()
        progress.step, progress.batch = progress.step + 1, progress.batch + len(group)
        progress.nll, progress.tokens = progress.nll + nll, progress.tokens + tokens
        self._validation = self._saved = None
        report.advance()
        if progress.step % self.options.log_every == 0:
            self._log(rate, norm, report)

    def _scale_gradients(self, divisor: int) -> float:
        """Turn the gradient of a sum into that of a mean, clip it, and give its norm before clipping."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) / divisor
        if not math.isfinite(norm):
            raise TrainingDiverged(
                f"training: expected a finite gradient at step {self.progress.step + 1}, found norm {norm}; "
                "lower the learning rate or the clip, and go on from the last checkpoint"
            )
        clipped = min(1.0, self.options.clip / (norm + 1e-6)) if self.options.clip else 1.0
        torch._foreach_mul_(gradients, clipped / divisor)
        return norm

    def _log(self, rate: float, norm: float, report: Report) -> None:
        progress, now = self.progress, time.monotonic()
        loss, speed = progress.nll / progress.tokens, progress.tokens / (now - self._logged)
        self._logged, progress.nll, progress.tokens = now, 0.0, 0
        report.record(
            "train",
            progress.step,
            {
                "epoch": progress.epoch,
                "loss": loss,
                "lr": rate,
                "gradient_norm": norm,
                "tokens_per_second": speed,
                "seconds": self._seconds(),
            },
        )
        progress.records += 1
        report.status(f"epoch {progress.epoch}, loss {loss:.4f}, {speed:,.0f} tokens/s")

    def _validate(self, report: Report) -> None:
        progress, name = self.progress, self.task.metric
        self.model.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad(), self._autocast():
            values = self.task.validate(self.model)
        self.model.train()
        value = values[name]
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"training: expected a finite {name} at step {progress.step}, found {value}; lower the "
                "learning rate, and go on from the last checkpoint"
            )
        sign = 1.0 if self.task.higher_is_better else -1.0
        better = progress.best is None or sign * value > sign * progress.best
        if better:
            progress.best, progress.best_step, progress.waited = value, progress.step, 0
        else:
            progress.waited += 1
        self.schedule.observe(better)
        self._validation = {"metric": name, "value": value, "higher_is_better": self.task.higher_is_better}
        self._saved = None
        report.record("valid", progress.step, {"epoch": progress.epoch, "seconds": self._seconds(), **values})
        progress.records += 1
        report.say(
            f"step {progress.step}: {name} {value:.2f}, best {progress.best:.2f} at step {progress.best_step}"
        )
        self._logged = time.monotonic()

    def _save(self) -> Path:
        self.progress.seconds = self._seconds()
        folder = self.directory / "checkpoints"
        saved = checkpoints.save(
            folder,
            self.progress.step,
            checkpoints.model_tensors(self.model),
            training_tensors(self.optimizer, self.carried, self.device),
            {
                "progress": asdict(self.progress),
                "schedule": self.schedule.state(),
                "validation": self._validation,
                "fingerprints": dict(self.task.fingerprints),
            },
        )
        newest = checkpoints.paths(folder)[-self.options.keep :]
        best = checkpoints.ranking(folder)[: self.options.keep_best]
        for path in checkpoints.paths(folder):
            if path not in (saved, *newest, *best):
                checkpoints.remove(path)
        return saved

    def _resume(self) -> None:
        folder = self.directory / "checkpoints"
        checkpoints.tidy(folder)
        found = checkpoints.newest(folder)
        if found is None:
            if checkpoints.paths(folder):
                raise checkpoints.CheckpointError(
                    f"{folder}: expected a good checkpoint to go on from, found only damaged ones; "
                    "restore one from a copy, or delete the folder to begin anew"
                )
            return
        checkpoints.check_fingerprints(found, self.task.fingerprints)
        checkpoints.load_model(self.model, found.model(), str(found.path))
        self.carried = restore_training(found.training(), self.optimizer, self.device)
        self.progress = Progress(**found.state["progress"])
        self.schedule.load_state(found.state["schedule"])
        self._validation, self._saved = found.state["validation"], found.path

    def _total_steps(self) -> int:
        """Updates in the whole training, as far as epochs and steps say."""
        if self.options.steps:
            return self.options.steps
        batches = map(self.task.epoch_length, range(1, self.options.epochs + 1))
        return sum(math.ceil(count / self.options.accumulate) for count in batches)

    def _autocast(self) -> AbstractContextManager:
        if self.options.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _seconds(self) -> float:
        """Time spent in training, earlier processes included."""
        return time.monotonic() - self._started
