"""Numbers of the test in the table: spread over the seeds, interval, and the baseline beside them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from seqsru.comparing.plan import Job
from seqsru.comparing.records import Line
from seqsru.comparing.spec import Spec
from seqsru.evaluation.items import Items, compare, read_shares
from seqsru.regular import read

MOST = 2**28  # bytes of the shares of lines

Row = dict[str, Any]
Shares = dict[str, Items]  # by measure


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, sample standard deviation and number; None of nothing."""
    if not values:
        return None
    if not all(map(math.isfinite, values)):  # a perplexity beyond all numbers
        return {"mean": math.inf, "deviation": math.nan, "n": len(values)}
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "deviation": deviation, "n": len(values)}


def items_of(spec: Spec, jobs: Sequence[Job], lines: Sequence[Mapping[str, Line]]) -> dict[int, Shares]:
    """The lines' shares in the test numbers of each seed that was tested, by measure."""
    found = {}
    for job, one in zip(jobs, lines):
        if "test" in one:
            path = spec.options.output / f"{job.name}.items.json"
            found[job.seed] = read_shares(json.loads(read(path, MOST, "evaluate again")))
    return found


def beside_headline(name: str, row: Row, baseline: Mapping[int, Shares], system: Mapping[int, Shares]) -> Row:
    """What a row says of a measure that is not the headline."""
    values = [one[name].value() for one in system.values() if name in one]
    return {
        "test": spread(values),
        "interval": interval(row, name),
        "to_baseline": compared(baseline, system, name),
    }


def interval(row: Row, name: str | None) -> list[float] | None:
    """Middle and half width of 95 % of the resamples of a single run; several have a spread."""
    tested = [one for one in row["runs"] if one["test"] is not None]
    return tested[0]["intervals"].get(name) if len(tested) == 1 else None


def compared(baseline: Mapping[int, Shares], system: Mapping[int, Shares], name: str | None) -> Row | None:
    """A measure of a system beside the baseline's, by the seeds that both have."""
    seeds = [seed for seed in baseline if seed in system and name in baseline[seed] and name in system[seed]]
    if name is None or not seeds:
        return None
    both = [one[seed][name].value() for one in (baseline, system) for seed in seeds]
    if not all(map(math.isfinite, both)):  # a perplexity beyond all numbers
        return None
    found = compare([baseline[seed][name] for seed in seeds], [system[seed][name] for seed in seeds])
    return {**found._asdict(), "difference": found.system - found.baseline, "seeds": seeds}
