"""The one training loop."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqsru.errors import Refused
from seqsru.training.checkpoints import Checkpoint, rank
from seqsru.training.interrupt import Interrupt
from seqsru.training.objective import Objective
from seqsru.training.progress import Outcome, Progress
from seqsru.training.resume import Standing, check_end, machine, newest, resume, save
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
    kept : mapping of str to object, optional
        JSON values for every checkpoint: what the run is, besides its settings.

    Attributes
    ----------
    notes : list of str
        What the log begins with.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        run: RunDirectory,
        options: TrainingOptions,
        kept: Mapping[str, object] | None = None,
    ) -> None:
        self.model, self.objective, self.optimizer, self.schedule = model, objective, optimizer, schedule
        self.run, self.options, self.kept = run, options, kept or {}
        self.notes: list[str] = []
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.standing = Standing(Progress())
        self._resumed = False
        self._started = self._logged = 0.0

    def resume(self, found: Checkpoint | None, began: TrainingOptions | None = None) -> None:
        """Stand where a checkpoint was written, without a change to any file; `fit` then goes on from there.

        Parameters
        ----------
        found : Checkpoint or None
            The newest one of the run, None where there is none.
        began : TrainingOptions, optional
            Those that the run had, if its checkpoint is too old to say how many updates they made.

        Raises
        ------
        CheckpointError
            It does not belong to this training.
        Refused
            The options end before it, or elsewhere than the schedule that the run began with.
        """
        if self.options.threads:
            torch.set_num_threads(self.options.threads)
        if found is not None:
            total, kept = self._total_steps(self.options), found.record.get("total_steps")
            if kept is None and began is not None:
                kept = self._total_steps(began)
            check_end(found, self.options, total, kept if self.schedule.needs_total else None, self.run)
            self._note_changes(found)
        self.standing = resume(
            found,
            self.model,
            self.optimizer,
            self.schedule,
            self.objective.fingerprints,
            lambda: self.objective.carried_like(self.model),
        )
        self._resumed = True

    def _note_changes(self, found: Checkpoint) -> None:
        now = machine(self.device)
        before = found.record.get("machine", now)
        changed = [
            f"{name} {now[name]} instead of {before[name]}" for name in now if now[name] != before[name]
        ]
        if changed:
            self.notes.append(
                f"goes on after step {found.step} with {', '.join(changed)}: "
                "from here on it may differ in its last bits from a run that was not stopped"
            )

    def fit(self) -> Outcome:
        """Train until the end, or until a signal asks to stop; either way the last state is on disk.

        Raises
        ------
        Busy
            Another process trains in the directory.
        CheckpointError, Refused
            The run's checkpoints cannot be gone on from: see `resume`, which is called if it was not before.
        TrainingDiverged
            A gradient or a validation is not finite.
        """
        with self.run.exclusive(), Interrupt() as interrupt:
            if not self._resumed:
                self.resume(newest(self.run))
            self._resumed = False
            at, progress = self.standing, self.standing.progress
            self._logged = time.monotonic()
            self._started = self._logged - progress.seconds
            total = self._total_steps(self.options)
            # The line of a validation at the end stays where nothing follows it.
            records = progress.records + (at.ended and self._reason(interrupt) is not None)
            with RunLog(self.run, records, progress.step, total, tensorboard=self.options.tensorboard) as log:
                for note in self.notes:
                    log.write_line(note)
                for note in () if progress.step else self.objective.notes:
                    log.write_line(note, show=False)
                reason = self._loop(total, interrupt, log)
                if reason != "interrupted" and at.validation is None:
                    self._validate(log, at_end=True)
                checkpoint = at.saved or self._save()
                log.write_line(f"stopped at step {progress.step}: {reason}")
                return Outcome(reason, progress.step, *self._best(), checkpoint)

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
        while group := list(islice(batches, min(self.options.accumulate, sys.maxsize))):
            yield group

    def _update(self, group: list[Any], total: int, log: RunLog) -> None:
        at, progress = self.standing, self.standing.progress
        known = total if self.schedule.needs_total else 0
        rate = self.schedule.rate(Position(progress.step + 1, progress.epoch, known))
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

    def _validate(self, log: RunLog, *, at_end: bool = False) -> None:
        """Validate; at the end of training without a trace in what the next update depends on."""
        at, progress, name = self.standing, self.standing.progress, self.objective.metric
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
        at.validation = {
            "metric": name,
            "value": value,
            "higher_is_better": self.objective.higher_is_better,
            "tie_breaker": tie,
            **({"at_end": True} if at_end else {}),
        }
        at.saved = None
        if not at_end:
            better = self._better(at.validation)
            if better:
                progress.best, progress.best_tie = value, tie
                progress.best_step, progress.waited = progress.step, 0
            else:
                progress.waited += 1
            self.schedule.observe(better)
            progress.records += 1
        log.write_metrics(
            "valid", progress.step, {"epoch": progress.epoch, "seconds": self._seconds(), **values}
        )
        best, best_step = self._best()
        assert best is not None
        log.write_line(f"step {progress.step}: {name} {value:.2f}, best {best:.2f} at step {best_step}")
        self._logged = time.monotonic()

    def _better(self, found: Mapping[str, Any]) -> bool:
        """Whether a validation is a new best."""
        progress = self.standing.progress
        best = {**found, "value": progress.best, "tie_breaker": progress.best_tie}
        return progress.best is None or rank(found) < rank(best)

    def _best(self) -> tuple[float | None, int]:
        """The best value and its step, a validation at the end included."""
        at, progress = self.standing, self.standing.progress
        if at.validation is not None and at.ended and self._better(at.validation):
            return at.validation["value"], progress.step
        return progress.best, progress.best_step

    def _save(self) -> Path:
        self.standing.progress.seconds = self._seconds()
        return save(
            self.run,
            self.standing,
            self.model,
            self.optimizer,
            self.schedule,
            {
                "fingerprints": dict(self.objective.fingerprints),
                "total_steps": self._total_steps(self.options),
                **self.kept,
            },
            keep=self.options.keep,
            keep_best=self.options.keep_best,
        )

    def _total_steps(self, options: TrainingOptions) -> int:
        """Updates in the whole training, as far as epochs and steps say."""
        return options.steps or options.epochs * -(-self.objective.epoch_length() // options.accumulate)

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the loss is computed, for the precision of the options."""
        if self.options.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _seconds(self) -> float:
        """Time spent in training, earlier processes included."""
        return time.monotonic() - self._started
