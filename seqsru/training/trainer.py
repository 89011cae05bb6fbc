"""The one training loop."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqsru.errors import Refused
from seqsru.training.checkpoints import rank
from seqsru.training.interrupt import Interrupt
from seqsru.training.objective import Objective
from seqsru.training.progress import Outcome, Progress
from seqsru.training.resume import Standing, resume, save
from seqsru.training.run_directory import RunDirectory
from seqsru.training.run_log import RunLog
from seqsru.training.schedules import Position, Schedule
from seqsru.training.training_options import TrainingOptions


class TrainingDiverged(Refused):
    """The gradient or the validation is no longer finite."""


class Trainer:
    """Train a model in a run directory, going on from its newest checkpoint if there is one.

    The gradient of an update is that of the loss summed over the batches of the update, divided once by their
    tokens (or rows), then clipped. A run that is killed and started again ends with the same bits as one that
    was not.

    Parameters
    ----------
    model : nn.Module
    objective : Objective
    optimizer : torch.optim.Optimizer
    schedule : Schedule
    run : RunDirectory
        One process at a time.
    options : TrainingOptions
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        run: RunDirectory,
        options: TrainingOptions,
    ) -> None:
        self.model, self.objective, self.optimizer, self.schedule = model, objective, optimizer, schedule
        self.run, self.options = run, options
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.standing = Standing(Progress())
        self._started = self._logged = 0.0

    def fit(self) -> Outcome:
        """Train until the end, or until a signal asks to stop; either way the last state is on disk.

        Raises
        ------
        Busy
            Another process trains in the directory.
        CheckpointError
            The run's checkpoints cannot be gone on from.
        TrainingDiverged
            A gradient or a validation is not finite.
        """
        with self.run.exclusive(), Interrupt() as interrupt:
            if self.options.threads:
                torch.set_num_threads(self.options.threads)
            fingerprints = self.objective.fingerprints
            self.standing = resume(self.run, self.model, self.optimizer, self.schedule, fingerprints)
            at, progress = self.standing, self.standing.progress
            self._logged = time.monotonic()
            self._started = self._logged - progress.seconds
            total = self._total_steps()
            with RunLog(
                self.run, progress.records, progress.step, total, tensorboard=self.options.tensorboard
            ) as log:
                for note in () if progress.step else self.objective.notes:
                    log.write_line(note, show=False)
                reason = self._loop(total, interrupt, log)
                if reason != "interrupted" and at.validation is None:
                    self._validate(log)
                checkpoint = at.saved or self._save()
                log.write_line(f"stopped at step {progress.step}: {reason}")
                return Outcome(reason, progress.step, progress.best, progress.best_step, checkpoint)

    def _loop(self, total: int, interrupt: Interrupt, log: RunLog) -> str:
        at, progress = self.standing, self.standing.progress
        self.model.train()
        while (reason := self._reason(interrupt)) is None:
            for group in self._groups():
                self._update(group, total, log)
                if self.options.validate_every and progress.step % self.options.validate_every == 0:
                    self._validate(log)
                    self._save()
                elif self.options.save_every and progress.step % self.options.save_every == 0:
                    self._save()
                if (reason := self._reason(interrupt)) is not None:
                    return reason
            progress.epoch, progress.batch, at.carried = progress.epoch + 1, 0, None
            at.saved = None
            if not self.options.validate_every:
                self._validate(log)
                self._save()
        return reason

    def _reason(self, interrupt: Interrupt) -> str | None:
        """Why training should end now, if it should."""
        progress = self.standing.progress
        if self.options.steps and progress.step >= self.options.steps:
            return "steps"
        if self.options.epochs and progress.epoch > self.options.epochs:
            return "epochs"
        if self.options.patience and progress.waited >= self.options.patience:
            return "patience"
        if self.options.max_minutes and self._seconds() >= 60.0 * self.options.max_minutes:
            return "time"
        return "interrupted" if interrupt.requested else None

    def _groups(self) -> Iterator[list[Any]]:
        """What is left of the epoch, as the batches of each update."""
        batches = self.objective.batches(self.standing.progress.epoch, self.standing.progress.batch)
        while group := list(islice(batches, self.options.accumulate)):
            yield group

    def _update(self, group: list[Any], total: int, log: RunLog) -> None:
        at, progress = self.standing, self.standing.progress
        rate = self.schedule.rate(Position(progress.step + 1, progress.epoch, total))
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        divisor, tokens, nll = 0, 0, 0.0
        for batch in group:
            with self.autocast():
                result = self.objective.loss(self.model, batch, at.carried)
            result.loss.backward()  # type: ignore[no-untyped-call]
            at.carried = tuple(t.detach() for t in result.carried)
            nll += result.nll.item()
            tokens += result.tokens
            divisor += result.tokens if self.options.normalize == "tokens" else result.rows
        norm = self._scale_gradients(divisor)
        self.optimizer.step()
        self.optimizer.zero_grad()
        progress.step, progress.batch = progress.step + 1, progress.batch + len(group)
        progress.nll, progress.tokens = progress.nll + nll, progress.tokens + tokens
        at.validation = at.saved = None
        log.advance()
        if progress.step % self.options.log_every == 0:
            self._log_update(rate, norm, log)

    def _scale_gradients(self, divisor: int) -> float:
        """Turn the gradient of a sum into that of a mean, clip it, and give its norm before clipping."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) / divisor
        if not math.isfinite(norm):
            raise TrainingDiverged(
                f"a finite gradient at step {self.standing.progress.step + 1}",
                f"norm {norm}",
                "lower the learning rate or the clip, and go on from the last checkpoint",
            )
        clipped = min(1.0, self.options.clip / (norm + 1e-6)) if self.options.clip else 1.0
        torch._foreach_mul_(gradients, clipped / divisor)
        return norm

    def _log_update(self, rate: float, norm: float, log: RunLog) -> None:
        progress, now = self.standing.progress, time.monotonic()
        loss, speed = progress.nll / progress.tokens, progress.tokens / (now - self._logged)
        self._logged, progress.nll, progress.tokens = now, 0.0, 0
        log.write_metrics(
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
        log.status(f"epoch {progress.epoch}, loss {loss:.4f}, {speed:,.0f} tokens/s")

    def _validate(self, log: RunLog) -> None:
        at, progress, name = self.standing, self.standing.progress, self.objective.metric
        higher_is_better = self.objective.higher_is_better
        self.model.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad(), self.autocast():
            values = self.objective.validate(self.model)
        self.model.train()
        value = values[name]
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"a finite {name} at step {progress.step}",
                str(value),
                "lower the learning rate, and go on from the last checkpoint",
            )
        tie = values.get(self.objective.tie_breaker or "")
        if tie is not None and not math.isfinite(tie):
            tie = sys.float_info.max  # the worst, and a number that JSON has
        found = {"metric": name, "value": value, "higher_is_better": higher_is_better, "tie_breaker": tie}
        best = {**found, "value": progress.best, "tie_breaker": progress.best_tie}
        better = progress.best is None or rank(found) < rank(best)
        if better:
            progress.best, progress.best_tie = value, tie
            progress.best_step, progress.waited = progress.step, 0
        else:
            progress.waited += 1
        self.schedule.observe(better)
        at.validation = found
        at.saved = None
        log.write_metrics(
            "valid", progress.step, {"epoch": progress.epoch, "seconds": self._seconds(), **values}
        )
        progress.records += 1
        log.write_line(
            f"step {progress.step}: {name} {value:.2f}, best {progress.best:.2f} at step {progress.best_step}"
        )
        self._logged = time.monotonic()

    def _save(self) -> Path:
        self.standing.progress.seconds = self._seconds()
        return save(
            self.run,
            self.standing,
            self.model,
            self.optimizer,
            self.schedule,
            self.objective.fingerprints,
            keep=self.options.keep,
            keep_best=self.options.keep_best,
        )

    def _total_steps(self) -> int:
        """Updates in the whole training, as far as epochs and steps say."""
        if self.options.steps:
            return self.options.steps
        batches = map(self.objective.epoch_length, range(1, self.options.epochs + 1))
        return sum(math.ceil(count / self.options.accumulate) for count in batches)

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the loss is computed, for the precision of the options."""
        if self.options.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _seconds(self) -> float:
        """Time spent in training, earlier processes included."""
        return time.monotonic() - self._started
