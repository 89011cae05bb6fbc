"""The table of a comparison, as numbers, in Markdown and as CSV, made of what was recorded alone."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqsru.comparing.forms import as_csv, markdown, search_csv
from seqsru.comparing.measures import beside_headline, compared, interval, items_of, spread
from seqsru.comparing.options import CUT
from seqsru.comparing.outcomes import busy, reached
from seqsru.comparing.plan import Job
from seqsru.comparing.plots import plot_all
from seqsru.comparing.records import Line, Records
from seqsru.comparing.spec import Spec
from seqsru.data.files import write_whole
from seqsru.data.json_files import finite
from seqsru.errors import NotInstalled, Refused
from seqsru.regular import read

MOST = 2**28  # bytes of a table
LEAST_BUSY = 0.9
TABLES = ("table.json", "table.csv", "table.md")

Row = dict[str, Any]


def write_tables(
    spec: Spec,
    jobs: Mapping[str, list[Job]],
    depths: Mapping[str, float],
    records: Records,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Write the table in its three forms, and the plots, of what there is.

    Parameters
    ----------
    spec : Spec
    jobs : mapping of str to list of Job
        The trainings of each system, in the order of the seeds.
    depths : mapping of str to float
        What the plots have on their x axis; empty for nothing.
    records : Records
    tell : callable
        Is given what a person should know, a line at a time.

    Returns
    -------
    dict
        What table.json has.

    Raises
    ------
    Refused
        The lines are of several machines or sources.
    """
    folder = spec.options.output
    table = summary(spec, jobs, depths, records)
    whole = json.dumps(finite(table), indent=1, ensure_ascii=False) + "\n"
    for name, text in zip(TABLES, (whole, as_csv(table), markdown(table))):
        write_whole(folder / name, text.encode())
    if table["search"]:
        write_whole(folder / "search.csv", search_csv(table["search"]).encode())
    try:
        plot_all(table, folder)
    except NotInstalled as missing:
        tell(f"no plots: {missing}")
    return table


def summary(
    spec: Spec, jobs: Mapping[str, list[Job]], depths: Mapping[str, float], records: Records
) -> dict[str, Any]:
    """Everything that the table says, as plain JSON values; parameters and errors of `write_tables`."""
    used = {system: [_lines(job, records) for job in own] for system, own in jobs.items()}
    made = [line.made for own in used.values() for lines in own for line in lines.values()]
    others = [one for one in made if one != made[0]]
    if others:
        found = f"{others[0]} beside {made[0]}"
        raise Refused(
            f"results of one machine and one state of the sources in {records.path}",
            found,
            "do one of them anew",
        )
    goal, baseline = spec.options.goal, spec.options.baseline
    trained = [lines["train"].result for own in used.values() for lines in own if "train" in lines]
    # Where others used the machine too, the clock says nothing. Earlier versions noted no other time.
    processors = spec.budget.unit == "processor_minutes" and all(
        one.get("processor_curve") for one in trained
    )
    curve = "processor_curve" if processors else "curve"
    rows = [_row(system, own, depths.get(system), goal, curve) for system, own in used.items()]
    tests = {system: items_of(spec, jobs[system], own) for system, own in used.items()}
    measured = [one for row in rows for one in row["runs"] if one["test"] is not None]
    headline = measured[0]["measure"] if measured else None
    further = [name for name in spec.options.measures if name != headline]
    known = {name: one for own in tests.values() for shares in own.values() for name, one in shares.items()}
    for row in rows:
        own, beside = tests[row["system"]], {} if row["system"] == baseline else tests.get(baseline or "", {})
        row["interval"], row["to_baseline"] = interval(row, headline), compared(beside, own, headline)
        row["further"] = {name: beside_headline(name, row, beside, own) for name in further}
    validated = [one for row in rows for one in row["runs"] if one["validation"] is not None]
    return {
        "base": str(spec.options.base),
        "budget": str(spec.budget),
        "seeds": spec.options.seeds,
        "jobs": spec.options.jobs,
        "split": spec.options.split,
        "baseline": baseline,
        "goal": goal,
        "time": "processor minutes" if processors else "minutes",
        "depth": spec.options.depth,
        "measure": headline,
        "higher_is_better": measured[0]["higher_is_better"] if measured else None,
        "further": {
            name: {"higher_is_better": known[name].higher_is_better} for name in further if name in known
        },
        "validation_metric": validated[0]["metric"] if validated else None,
        "validation_higher_is_better": validated[0]["validation_higher_is_better"] if validated else None,
        "made": made[0] if made else None,
        "systems": rows,
        "search": _search(records, jobs),
        "warnings": _warnings(spec, jobs, rows, records),
    }


def _lines(job: Job, records: Records) -> dict[str, Line]:
    """The lines of what was done with a training, by step."""
    found = {step: line for (step, name), line in records.lines.items() if name == job.name}
    return {step: line for step, line in found.items() if line.state == "done"}


def _row(
    system: str, lines: Sequence[Mapping[str, Line]], depth: float | None, goal: float | None, curve: str
) -> Row:
    runs = [_run(one, goal, curve) for one in lines if "train" in one]
    times = [line.result for one in lines for step, line in one.items() if step.startswith("time")]
    tested = [one["test"] for one in runs if one["test"] is not None]
    return {
        "system": system,
        "depth": depth,
        "label": next((one["train"].result["label"] for one in lines if "train" in one), system),
        "parameters": runs[0]["parameters"] if runs else None,
        "width": runs[0]["width"] if runs else None,
        "test": spread(tested),
        "validation": spread([one["validation"] for one in runs if one["validation"] is not None]),
        **{
            name: spread([one[name] for one in runs if one[name]])
            for name in ("tokens_per_second", "update_milliseconds", "passes")
        },
        "goal_seconds": spread([one["goal_seconds"] for one in runs if one["goal_seconds"] is not None]),
        "seconds": spread([one["seconds"] for one in runs]),
        "processor_seconds": spread([one["processor_seconds"] for one in runs]),
        "busy": spread([one["busy"] for one in runs if math.isfinite(one["busy"])]),
        "peak_bytes": max((one["peak_bytes"] for one in runs), default=None),
        "steps": spread([float(one["steps"]) for one in runs]),
        "latency": _latency(times),
        "runs": runs,
    }


def _run(lines: Mapping[str, Line], goal: float | None, curve: str) -> Row:
    trained, tested = lines["train"], lines.get("test")
    result = trained.result
    validations = result[curve]
    kept = (
        "parameters",
        "width",
        "seconds",
        "processor_seconds",
        "peak_bytes",
        "steps",
    )
    return {
        **{name: result[name] for name in (*kept, "epochs", "tokens_per_second", "metric", "threads")},
        # Results of earlier versions have none of these.
        **{name: result.get(name) for name in ("update_milliseconds", "passes")},
        "intervals": {} if tested is None else tested.result.get("intervals", {}),
        "job": trained.job,
        "seed": trained.what["seed"],
        "device": trained.made["device"],
        "curve": validations,
        "goal_seconds": None if goal is None else reached(validations, goal, result["higher_is_better"]),
        "validation": result["best"],
        "validation_higher_is_better": result["higher_is_better"],
        "busy": busy(result),
        "test": None if tested is None else tested.result["value"],
        "measure": None if tested is None else tested.result["measure"],
        "higher_is_better": None if tested is None else tested.result["higher_is_better"],
        "numbers": None if tested is None else tested.result["numbers"],
        "signature": None if tested is None else tested.result["signature"],
    }


def _latency(rounds: Sequence[Mapping[str, Any]]) -> Row | None:
    """The median over the rounds of each time's percentiles, with the least and the greatest P50."""
    if not rounds:
        return None
    found: Row = {"engine": rounds[0]["engine"], "rounds": len(rounds)}
    for name in rounds[0]["times"]:
        times = [one["times"][name] for one in rounds]
        p50s = [one["p50"] for one in times]
        found[name] = {
            "p50": statistics.median(p50s),
            "p90": statistics.median(one["p90"] for one in times),
            "p50_least": min(p50s),
            "p50_greatest": max(p50s),
            "n": sum(one["n"] for one in times),
        }
    found["unit"] = "token" if "later_tokens" in found else "line"
    return found


def _search(records: Records, jobs: Mapping[str, Any]) -> Row:
    """What the search of each system found, and how."""
    lines = {system: records.done("search", system) for system in jobs}
    return {system: line.result for system, line in lines.items() if line is not None}


def _warnings(spec: Spec, jobs: Mapping[str, list[Job]], rows: Sequence[Row], records: Records) -> list[str]:
    """What a reader of the table must know."""
    found = []
    shared = [
        one for row in rows for one in row["runs"] if one["busy"] < LEAST_BUSY and one["device"] == "cpu"
    ]
    if shared:
        shares = sorted(100 * one["busy"] for one in shared)
        ends = dict.fromkeys(f"{one:.0f}" for one in (shares[0], shares[-1]))
        which = ", ".join(one["job"] for one in shared)
        by_the_clock = spec.budget.unit == "minutes"  # the others are not used up by other work
        found.append(
            f"{which}: processors for {' to '.join(ends)} % of the threads' time, below "
            f"{100 * LEAST_BUSY:.0f} %: other work took the rest, so "
            + ("equal time was no equal work" if by_the_clock else "their speeds are those of a busy machine")
        )
    for row in rows:
        for run in row["runs"]:
            amount = spec.budget.amount
            used = {
                "minutes": run["seconds"] / 60,
                "processor_minutes": run["processor_seconds"] / 60,
                "updates": run["steps"],
                "epochs": run["epochs"],
            }[spec.budget.unit]
            if used < 0.99 * amount:
                unit = spec.budget.unit.replace("_", " ")
                found.append(f"{run['job']} ended after {used:.4g} of {amount:g} {unit}")
        missing = len(spec.options.seeds) - len([run for run in row["runs"] if run["test"] is not None])
        if missing:
            found.append(f"{row['system']}: {missing} of {len(spec.options.seeds)} seeds are not there")
        goal = [run for run in row["runs"] if run["goal_seconds"] is None]
        if spec.options.goal is not None and goal:
            found.append(
                f"{row['system']}: {len(goal)} of {len(row['runs'])} trainings did not reach the goal"
            )
    unknown = {
        row["system"]: run["numbers"]["unknown"]
        for row in rows
        for run in row["runs"]
        if run["numbers"] is not None and "unknown" in run["numbers"]
    }
    if len(set(unknown.values())) > 1:
        counts = ", ".join(f"{system} {count:,.0f}" for system, count in unknown.items())
        found.append(
            f"unknown tokens of the test: {counts}: what is easy to predict differs, and so do measures"
        )
    cut = [system for system, own in jobs.items() if spec.may_cut(own[0].settings)]
    if cut:
        found.append(f"{', '.join(cut)}: {CUT}")
    for line in records.lines.values():
        if line.state == "failed":
            found.append(f"failed: {line.step} {line.job}: {line.result.get('told', '')}")
    return found


def table_in(folder: Path) -> str:
    """The Markdown that was written last."""
    return read(folder / TABLES[2], MOST, "make it with --table").decode()
