"""The one training loop."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqsru.data.room import peak_memory
from seqsru.errors import Refused
from seqsru.ops import compiled
from seqsru.training.averaging import Average, Averaging, NoAveraging
from seqsru.training.checkpoints import Checkpoint, rank
from seqsru.training.finite import (
    STOPPED,
    TrainingDiverged,
    check_rate,
    check_saved,
    check_value,
    together,
    told,
)
from seqsru.training.interrupt import Interrupt
from seqsru.training.objective import Carried, Objective
from seqsru.training.pending import Seen
from seqsru.training.processes import ALONE, Processes
from seqsru.training.progress import Outcome, Progress
from seqsru.training.resume import Standing, check_end, check_limits, machine, newest, resume, save
from seqsru.training.run_directory import RunDirectory
from seqsru.training.run_log import NoLog, RunLog
from seqsru.training.schedules import Position, Schedule
from seqsru.training.training_options import TrainingOptions
from seqsru.training.updates import Updates


class Trainer:
    """Train a model in a run directory, going on from its newest checkpoint if there is one.

    The gradient of an update is that of the loss summed over the batches of the update, divided once by their
    tokens (or rows), then clipped. A run that is killed and started again ends with the same bits as one that
    was not. What an update gives stays on the device until somebody must know: a line of metrics, a
    validation, a checkpoint.

    Several processes make the same updates together, each a share of every one; the first of them writes.

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
    processes : Processes
        Those that train together.
    averaging : Averaging
        Whether an average of the weights is kept beside them, which then is what validation measures and what
        a checkpoint's weights are.

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
        processes: Processes = ALONE,
        averaging: Averaging | None = None,
    ) -> None:
        self.model, self.objective, self.optimizer, self.schedule = model, objective, optimizer, schedule
        self.run, self.options, self.kept, self.processes = run, options, kept or {}, processes
        objective.processes = processes
        self.notes: list[str] = []
        self.device = next(model.parameters()).device
        self.average = Average(model, averaging or NoAveraging())
        self.updates = Updates(model, objective, optimizer, options, processes, self.average)
        self.standing = Standing(Progress())
        self._resumed = False
        self._started = self._logged = self._worked = 0.0
        self._tokens = 0  # seen since `_logged`: those before a resume took their time elsewhere

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
        self._check_shares()
        self._check_time()
        if found is not None:
            total, kept = self._total_steps(self.options), found.record.get("total_steps")
            if kept is None and began is not None:
                kept = self._total_steps(began)
            check_end(found, self.options, total, kept if self.schedule.needs_total else None, self.run)
            check_limits(found, self._limits(), self.run)
            self._note_changes(found)
        self.standing = resume(
            found,
            self.model,
            self.optimizer,
            self.schedule,
            self.objective.fingerprints,
            lambda: self.objective.carried_like(self.model),
            self.average,
        )
        carried, rows = self.standing.carried, self.objective.shared_rows
        if carried is not None and rows and self.processes.several:
            first, last = self.processes.part(rows)
            self.standing.carried = tuple(t[first:last] for t in carried)
        self.updates.seed = torch.initial_seed() if found is None else found.record.get("mask_seed")
        self._resumed = True

    def _check_shares(self) -> None:
        """Refuse more processes than there is work for."""
        count, rows = self.processes.count, self.objective.shared_rows
        if self.processes.several and not rows and self.options.accumulate < count:
            raise Refused(
                f"at least a batch an update for each of the {count} processes",
                self.options.accumulate,
                "raise it, or start fewer processes: they share the batches of an update",
                "accumulate",
            )
        if rows and rows < count:
            raise Refused(
                f"at least a row of each batch for each of the {count} processes",
                rows,
                "raise batches.batch_size, or start fewer processes",
            )

    def _check_time(self) -> None:
        """Refuse a schedule over a time that training has not, or that several clocks tell."""
        if not self.schedule.needs_time:
            return
        if self.processes.several:
            do = "train with one, or with a schedule over updates"
            raise Refused("one process with a schedule over time", self.processes.count, do, "processes")
        if not (self.options.max_minutes or self.options.max_processor_minutes):
            expected = "max_minutes or max_processor_minutes, which the schedule goes over"
            raise Refused(expected, "neither", "give one of them", "max_minutes")

    def _limits(self) -> list[float] | None:
        """The minutes of the clock and of processors that the schedule goes over; None where it does not."""
        limits = [self.options.max_minutes, self.options.max_processor_minutes]
        return limits if self.schedule.needs_time else None

    def _note_changes(self, found: Checkpoint) -> None:
        now = machine(self.device)
        before = now | found.record.get("machine", {})  # what was not written down is not known to differ
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
        with ExitStack() as held, Interrupt(self.processes.several) as interrupt:
            self.processes.first(lambda: self.hold(held))
            if not self._resumed:
                self.resume(newest(self.run))
            self._resumed = False
            at, progress = self.standing, self.standing.progress
            self._logged, self._tokens = time.monotonic(), 0
            # Code that is compiled when it is first used is kept: no training should pay for the next ones.
            self._started = self._logged - compiled.spent.seconds - progress.seconds
            spent = time.process_time() - compiled.spent.processor_seconds
            self._worked = spent - progress.processor_seconds
            total = self._total_steps(self.options)
            flags = self.processes.every(self._flags(interrupt))
            self.updates.flags = any(late for late, _ in flags), any(asked for _, asked in flags)
            # The line of a validation at the end stays where nothing follows it.
            records = progress.records + (at.ended and self._reason(interrupt) is not None)
            with self._log(records, total) as log:
                for note in self.notes:
                    log.write_line(note)
                for note in () if progress.step else self.objective.notes:
                    log.write_line(note, show=False)
                try:
                    reason = self._loop(total, interrupt, log)
                    self._look(log)
                    if reason != "interrupted" and at.validation is None:
                        self._validate(log, at_end=True)
                    checkpoint = at.saved or self._save(log)
                except TrainingDiverged as stop:
                    log.write_line(f"stopped: {stop}", show=False)
                    log.write_metrics(STOPPED, progress.step, {})
                    raise
                log.write_line(f"stopped at step {progress.step}: {reason}")
                asked = max(self.processes.every(interrupt.number))
                return Outcome(reason, progress.step, *self._best(), checkpoint, asked)

    def hold(self, held: ExitStack) -> None:
        """Hold the run directory until the stack is left."""
        held.enter_context(self.run.exclusive())

    def _log(self, records: int, total: int) -> RunLog | NoLog:
        if not self.processes.leads:
            return NoLog()
        return RunLog(
            self.run, records, self.standing.progress.step, total, tensorboard=self.options.tensorboard
        )

    def _loop(self, total: int, interrupt: Interrupt, log: RunLog | NoLog) -> str:
        at, progress = self.standing, self.standing.progress
        self.model.train()
        while (reason := self._reason(interrupt)) is None:
            for group in self._groups():
                self._update(group, total, self._flags(interrupt), log)
                if self.options.validate_every and progress.step % self.options.validate_every == 0:
                    self._validate(log)
                    self._save(log)
                elif self.options.save_every and progress.step % self.options.save_every == 0:
                    self._save(log)
                if (reason := self._reason(interrupt)) is not None:
                    return reason
            progress.epoch, progress.batch, at.carried = progress.epoch + 1, 0, None
            at.saved = None
            if not self.options.validate_every:
                self._validate(log)
                self._save(log)
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
        late, asked = self.updates.flags if self.processes.several else self._flags(interrupt)
        return "time" if late else "interrupted" if asked else None

    def _flags(self, interrupt: Interrupt) -> tuple[bool, bool]:
        """Whether time is over, and whether somebody asked to stop, as far as this process knows."""
        return self._share() >= 1.0, interrupt.requested

    def _share(self) -> float:
        """Share of the time of training that is used, 0 where there is no limit."""
        wall, processor = 60.0 * self.options.max_minutes, 60.0 * self.options.max_processor_minutes
        return max(
            self._seconds() / wall if wall else 0.0,
            self._processor_seconds() / processor if processor else 0.0,
        )

    def _groups(self) -> Iterator[list[Any]]:
        """What is left of the epoch, as the batches of each update."""
        batches = self.objective.batches(self.standing.progress.epoch, self.standing.progress.batch)
        while group := list(islice(batches, min(self.options.accumulate, sys.maxsize))):
            yield group

    def _update(self, group: list[Any], total: int, flags: tuple[bool, bool], log: RunLog | NoLog) -> None:
        at, progress = self.standing, self.standing.progress
        known = total if self.schedule.needs_total else 0
        share = min(1.0, self._share()) if self.schedule.needs_time else 0.0
        rate = self.schedule.rate(Position(progress.step + 1, progress.epoch, known, share))
        check_rate(rate, progress.step + 1)
        place = progress.step + 1, progress.epoch, progress.batch
        at.carried = self.updates.make(group, place, at.carried, rate, flags)
        for note in self.updates.replay.notes:
            log.write_line(note, show=False)
        self.updates.replay.notes.clear()
        progress.step, progress.batch = progress.step + 1, progress.batch + len(group)
        at.validation = at.saved = None
        log.advance()
        if progress.step % self.options.log_every == 0:
            norm = self._look(log)[-1].norm
            self._log_update(rate, norm, log)
        elif self.updates.pending.full:
            self._look(log)

    def _look(self, log: RunLog | NoLog) -> list[Seen]:
        """Wait for the updates that were made, and count them; stop at, or leave out, one that is none.

        Raises
        ------
        TrainingDiverged
            There is one, and training is to stop.
        """
        progress = self.standing.progress
        seen = self.updates.pending.look()
        for one in seen:
            if one.finite:
                progress.nll, progress.tokens = progress.nll + one.nll, progress.tokens + one.made.tokens
                self._tokens += one.made.tokens
                continue
            wrong = sorted({n for share in self.processes.every(one.wrong) for n in share})
            places = together(self.objective.places(one.made.epoch, n) for n in wrong)
            progress.skipped += self.options.on_nan == "skip"
            log.write_line(told(one, wrong, places, progress.skipped))
            if self.options.on_nan == "stop":
                raise TrainingDiverged.at(one, places)
        return seen

    def _log_update(self, rate: float, norm: float, log: RunLog | NoLog) -> None:
        progress, now = self.standing.progress, time.monotonic()
        loss = progress.nll / progress.tokens if progress.tokens else math.nan  # all of them were skipped
        speed = self._tokens / (now - self._logged)
        self._logged, self._tokens, progress.nll, progress.tokens = now, 0, 0.0, 0
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
                "processor_seconds": self._processor_seconds(),
                **({"skipped": progress.skipped} if progress.skipped else {}),
            },
        )
        progress.records += 1
        log.status(f"epoch {progress.epoch}, loss {loss:.4f}, {speed:,.0f} tokens/s")

    def _validate(self, log: RunLog | NoLog, *, at_end: bool = False) -> None:
        """Validate; at the end of training without a trace in what the next update depends on."""
        at, progress, name = self.standing, self.standing.progress, self.objective.metric
        self._look(log)
        start = time.monotonic()
        self.model.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        drawing = torch.random.fork_rng(devices)
        with self.average.applied(), drawing, torch.no_grad(), self.updates.autocast():
            values = self.processes.every(self.objective.validate(self.model))[0]
        self.model.train()
        value = values[name]
        check_value(name, value, progress.step)
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
            rule, begun = self.average.rule, self.average.rule.begun
            rule.observe(at.validation)
            if rule.begun and not begun:
                log.write_line(f"step {progress.step}: from here on the weights are averaged")
            progress.records += 1
        spent = {"seconds": self._seconds(), "processor_seconds": self._processor_seconds()}
        log.write_metrics("valid", progress.step, {"epoch": progress.epoch, **spent, **values})
        best, best_step = self._best()
        assert best is not None
        log.write_line(f"step {progress.step}: {name} {value:.2f}, best {best:.2f} at step {best_step}")
        self._logged += time.monotonic() - start  # the updates before it count with those after it

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

    def _save(self, log: RunLog | NoLog) -> Path:
        self._look(log)
        at = self.standing
        at.progress.seconds, at.progress.processor_seconds = self._seconds(), self._processor_seconds()
        at.progress.peak_bytes = max(at.progress.peak_bytes, self._peak())
        whole = replace(at, carried=self._gathered(at.carried))
        check_saved(at.progress.step, self.model, self.optimizer, at.carried, self.average.weights)
        record = {
            "fingerprints": dict(self.objective.fingerprints),
            "total_steps": self._total_steps(self.options),
            "mask_seed": self.updates.seed,
            **({"time_limits": limits} if (limits := self._limits()) else {}),
            **self.kept,
        }
        at.saved = self.processes.first(
            lambda: save(
                self.run,
                whole,
                self.model,
                self.optimizer,
                self.schedule,
                self.average,
                record,
                keep=self.options.keep,
                keep_best=self.options.keep_best,
            )
        )
        return at.saved

    def _gathered(self, carried: Carried | None) -> Carried | None:
        """The carried state of all rows, of which each process has its own."""
        if carried is None or not (self.processes.several and self.objective.shared_rows):
            return carried
        shares = self.processes.every(tuple(t.cpu() for t in carried))
        return tuple(torch.cat(parts) for parts in zip(*shares))

    def _total_steps(self, options: TrainingOptions) -> int:
        """Updates in the whole training, as far as epochs and steps say."""
        return options.steps or options.epochs * -(-self.objective.epoch_length() // options.accumulate)

    def _seconds(self) -> float:
        """Time spent in training, earlier processes included, compiling not."""
        return time.monotonic() - compiled.spent.seconds - self._started

    def _processor_seconds(self) -> float:
        """Time that processors spent in it, earlier processes included, compiling not."""
        return time.process_time() - compiled.spent.processor_seconds - self._worked

    def _peak(self) -> int:
        """Most memory that this process took so far, in bytes: of the GPU where it trains on one."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_memory()
