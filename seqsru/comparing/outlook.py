"""How much of a comparison is left, and about how long that takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqsru.comparing.identity import machine
from seqsru.comparing.options import CUT, Budget
from seqsru.comparing.plan import Plan
from seqsru.comparing.records import Records, final
from seqsru.comparing.spec import Spec
from seqsru.settings import Values


def left(spec: Spec, records: Records, made: Mapping[str, Any], settings: Values) -> str:
    """What is left to train and about how long that takes, for the end of a line on the way.

    Parameters
    ----------
    spec : Spec
    records : Records
    made : mapping
        What the lines are made with.
    settings : Values
        Those of one training.
    """
    search, systems = spec.search, len(spec.systems)
    done = [line for line in records.lines.values() if line.state == "done" or final(line)]
    none = [line.job for line in done if line.step == "search" and final(line)]  # of these nothing trains
    trained = [system for system in spec.systems if system not in none]
    names = [f"runs/{system}-{seed}" for system in trained for seed in spec.options.seeds]
    todo: list[Budget] = [spec.budget for name in names if records.done("train", name) is None]
    if search is not None and len([line for line in done if line.step == "search"]) < systems:
        before = 0.0
        for rung, (count, budget) in enumerate(search.rungs(), 1):
            ended = sum(line.step == f"train to round {rung}" for line in done)
            more = budget.grown(1.0 - before / budget.amount) if before < budget.amount else budget
            todo += [more] * max(0, systems * count - ended)
            if spec.goes_on(settings):
                before = budget.amount
    took = [line.result["took"] for line in done if line.step == "train" and line.state == "done"]
    usual = sum(took) / len(took) if took else None
    seconds = [_seconds(budget, made["threads"], usual) for budget in todo]
    about = "" if None in seconds else f", about {duration(sum(filter(None, seconds)) / spec.options.jobs)}"
    number = f"{len(todo)} training{'s' if len(todo) != 1 else ''}"
    return f"; to train, this one included: {number}{about}"


def _seconds(budget: Budget, threads: int, usual: float | None) -> float | None:
    """About how long a training of a budget takes, where that can be known."""
    if budget.unit == "minutes":
        return 60.0 * budget.amount
    if budget.unit == "processor_minutes":
        return 60.0 * budget.amount / threads
    return usual


def duration(seconds: float) -> str:
    """A time for people: ``2 h 5 min``, ``5 min``, ``30 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def described(spec: Spec, plan: Plan) -> list[str]:
    """The plan of a comparison in words, with what can be known of its time."""
    lines = []
    threads = 1
    for system in spec.systems:
        job = plan.runs(system, {} if spec.search is None else plan.values(1))[0]
        threads = machine(job.settings)["threads"]
        width = (
            "" if job.width is None or spec.size is None else f", {' = '.join(spec.size.by)} = {job.width}"
        )
        lines.append(f"{system}: {job.parameters:,} parameters{width}")
    systems, total = len(spec.systems), 0.0
    known = True
    if spec.search is not None:
        before = 0.0
        for count, budget in spec.search.rungs():
            lines.append(f"search: {count} trials of each system to {budget}")
            each = _seconds(budget, threads, None)
            known = known and each is not None
            total += systems * count * ((each or 0.0) - before)
            if spec.goes_on(job.settings):
                before = each or 0.0
    lines.append(f"train: {systems} systems x {len(spec.options.seeds)} seeds, {spec.budget} each")
    if spec.may_cut(job.settings):
        lines.append(f"learning rates: {CUT}")
    each = _seconds(spec.budget, threads, None)
    known = known and each is not None
    total += systems * len(spec.options.seeds) * (each or 0.0)
    lines.append(
        f"test: {spec.options.split}" + (f" with {' '.join(spec.evaluate)}" if spec.evaluate else "")
    )
    if spec.timing is not None:
        lines.append(
            f"latency: {spec.timing.count} lines, {spec.timing.rounds} rounds, {spec.timing.engine} engine"
        )
    if spec.options.jobs > 1:
        lines.append(f"{spec.options.jobs} trainings at once, of {threads} thread(s) each")
        total /= spec.options.jobs
    lines.append(
        f"training time: about {duration(total)}" if known else "training time: told after the first one"
    )
    return lines
