"""A training, from settings to the best weights and their signature, in one process or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from seqsru.errors import Refused
from seqsru.evaluation.environment import weights_hash
from seqsru.evaluation.signature import DIGITS, machine, parameters, signature
from seqsru.ops.precision import float32_products
from seqsru.settings import Values, shown
from seqsru.tasks.going_on import check_unchanged, file_sums
from seqsru.tasks.making import check_output, prepared, rehearse
from seqsru.tasks.run_settings import earlier_settings, keep_settings, task_of
from seqsru.training import Outcome, RunDirectory, Trainer, TrainingOptions, checkpoints
from seqsru.training.covered import check_covered
from seqsru.training.finite import HELP, stopped
from seqsru.training.processes import Processes, joined
from seqsru.training.resume import newest
from seqsru.training.weights import load_model


def train(settings: Values, tell: Callable[[str], None]) -> Outcome:
    """Train as the settings say, or go on with the run that is in the output directory.

    Parameters
    ----------
    settings : Values
        From ``seqsru.settings.load(path, schema())``.
    tell : callable
        Is given what a person should know on the way, a line at a time.

    Raises
    ------
    SettingsError
        A value that cannot be used, with its place, or other settings than those the run began with.
    Refused, OSError
        Data that cannot be used.
    """
    processes = joined()
    outcome = _trained(settings, tell if processes.leads else _silent, processes)
    processes.every(None)  # torchrun ends the others as soon as one has left before its work is done
    return outcome


def _silent(line: str) -> None:
    """Tell nobody: another process does."""


@contextmanager
def _held(settings: Values, run: RunDirectory, processes: Processes) -> Iterator[None]:
    """Hold the run directory, which the first process writes for all."""
    with ExitStack() as held:

        def hold() -> None:
            check_output(settings)
            held.enter_context(run.exclusive())

        processes.first(hold)
        yield


def _trained(settings: Values, tell: Callable[[str], None], processes: Processes) -> Outcome:
    """Train, together with other processes where there are any."""
    rehearse(settings)
    task, run = task_of(settings), RunDirectory(settings["output"])
    with _held(settings, run, processes):
        names = list(task.tokenizer_files().values())
        found = newest(run)
        _check_seen(None if found is None else found.step, run, processes)
        if found is not None:
            check_covered(found, run.sums_now(names), run.path)
        earlier = earlier_settings(run)
        began = {} if found is None else found.record
        sums = {**file_sums(settings), **task.sums()}
        if found is not None:
            free = HELP if stopped(run.metrics) else ()
            check_unchanged(settings, earlier, sums, began.get("files", {}), run.path, free)
            processes.every(None)  # all have read what the first one is about to write
        else:
            processes.every(None)
            if earlier is not None and processes.leads:  # it never came to train: nothing is worth keeping
                run.forget(task_of(earlier).tokenizer_files().values())
            keep_settings(settings, run, processes)
        # Sums that an older version did not keep are kept from now on.
        kept = {"files": {**sums, **began.get("files", {})}, "start": began.get("start")}
        trainer = prepared(task, run.path, run, tell, kept, processes)
        with settings["training"].blamed():
            trainer.resume(found, None if earlier is None else earlier["training"].of(TrainingOptions).make())
        if found is not None:  # nothing of a run that cannot go on so was touched
            trainer.notes.extend(_changes(settings, earlier, found.step))
            keep_settings(settings, run, processes)
        if processes.leads:  # which alone writes checkpoints
            run.keep_sums(names)
        for note in trainer.notes:
            tell(note)
        tell(f"{parameters(trainer.model)} parameters on {trainer.device.type}, in {run.path}")
        with float32_products("tf32" if trainer.options.precision == "tf32" else "ieee"):
            outcome = trainer.fit()
        if outcome.best is not None and processes.leads:
            weights, digest = _best_weights(trainer, outcome, run)
            fields = {
                **task.fields(trainer.model),
                "data": task.data_name("validation"),
                **trainer.objective.signature_fields(),
                "text": trainer.objective.text,
                "weights": weights,
                "model": digest,
                "precision": trainer.options.precision,
                "start": kept["start"],
                "seed": settings["seed"],
                **machine(trainer.device),
            }
            run.write(run.signature, f"{trainer.objective.metric} {outcome.best:.2f}\n{signature(fields)}\n")
    return outcome


def _check_seen(step: int | None, run: RunDirectory, processes: Processes) -> None:
    """Refuse a run directory that is not the same one for all processes."""
    steps = processes.every(step)
    if len(set(steps)) > 1:
        other = next(one for one in steps if one != steps[0])
        raise Refused(
            f"a folder that all processes share at {run.path}",
            f"that process 0 sees step {steps[0]} there and another {other}",
            "put it on a disk that all machines have",
            "output",
        )


def _changes(settings: Values, earlier: Values | None, step: int) -> list[str]:
    """What a run that stopped at numbers that are not finite goes on with other values of."""
    now, before = settings.flat(), settings.flat() if earlier is None else earlier.flat()
    changed = [f"{n} {shown(now[n])} instead of {shown(before[n])}" for n in HELP if now[n] != before[n]]
    return [f"goes on after step {step} with {', '.join(changed)}"] if changed else []


def _best_weights(trainer: Trainer, outcome: Outcome, run: RunDirectory) -> tuple[str, str | None]:
    """Name and digest of the best weights, no digest where none were kept; the trainer is of no use then."""
    path = run.checkpoints / checkpoints.name_of(outcome.best_step)
    if not path.exists():
        return f"step-{outcome.best_step}", None
    found = checkpoints.verified(path)
    load_model(trainer.model, found.model(), str(path))
    return checkpoints.weights_name(found), weights_hash(trainer.model)[:DIGITS]
