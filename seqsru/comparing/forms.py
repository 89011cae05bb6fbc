"""The table of a comparison in Markdown and as CSV, and the log of its search."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from seqsru.evaluation.bootstrap import RESAMPLES, SEED
from seqsru.settings import shown

Row = Mapping[str, Any]

SPREAD = ("mean", "deviation", "n")
INTERVAL = ("middle", "half")
COMPARED = ("difference", "p_value", "compared_n")


def digits_of(measure: str) -> int:
    """Digits after the point in a table: a model of characters has one or two bits a token."""
    return 3 if measure.startswith("bits_") else 2


def columns(table: Mapping[str, Any]) -> list[tuple[str, Callable[[Row], str]]]:
    """The heads of the table, and what stands below each."""
    measure, split = table["measure"] or "test", table["split"]
    found: list[tuple[str, Callable[[Row], str]]] = [
        ("system", lambda row: row["system"]),
    ]
    for name in (None, *table["further"]):  # the headline first
        places = digits_of(name or measure)
        found.append((f"{split} {name or measure}", partial(_tested, name=name, places=places)))
        if table["baseline"] is not None:
            against = partial(_against, name=name, places=places, seeds=table["seeds"])
            found.append((f"to {table['baseline']}", against))
    validated = table["validation_metric"] or ""
    found += [
        (f"validation {validated}".strip(), lambda row: _number(row["validation"], digits_of(validated))),
        ("parameters", lambda row: "" if row["parameters"] is None else f"{row['parameters']:,}"),
    ]
    if any(row["depth"] is not None for row in table["systems"]):
        found.append(("depth", lambda row: f"{row['depth']:g}"))
    found += [
        ("tokens/s", lambda row: _number(row["tokens_per_second"], 0)),
        ("ms an update", lambda row: _number(row["update_milliseconds"], 1)),
    ]
    if table["goal"] is not None:
        found.append((f"{table['time']} to {table['goal']:g}", _to_goal))
    found += [
        ("minutes", lambda row: _minutes(row["seconds"])),
        ("passes", lambda row: _number(row["passes"], 1)),
        ("processor minutes", lambda row: _minutes(row["processor_seconds"])),
        ("peak MB", lambda row: f"{row['peak_bytes'] / 1e6:.0f}" if row["peak_bytes"] else ""),
    ]
    timed = [row["latency"] for row in table["systems"] if row["latency"] is not None]
    if timed:
        unit, engine = timed[0]["unit"], timed[0]["engine"]
        name = "later_tokens" if unit == "token" else "sentences"
        found += [
            (f"ms a {unit}, {engine}, P50", lambda row: _time(row, name, "p50")),
            ("P90", lambda row: _time(row, name, "p90")),
            ("encoder ms, P50", lambda row: _time(row, "encoding", "p50")),
        ]
    return found


def markdown(table: Mapping[str, Any]) -> str:
    """The table in Markdown, with what must be known of it."""
    heads = columns(table)
    lines = [[name for name, _ in heads], ["---"] * len(heads)]
    lines += [[text(row) for _, text in heads] for row in table["systems"]]
    at_once = f", {table['jobs']} trainings at once" if table["jobs"] > 1 else ""
    told = [f"{table['budget']} each, seeds {', '.join(map(str, table['seeds']))}{at_once}."]
    if table["made"] is not None:
        made = table["made"]
        told.append(
            f"{made['cpu']}, {made['cores']} cores, {made['threads']} thread(s), {made['device']}, "
            f"torch {made['torch']}, seqsru {made['sources']}."
        )
    if any(row["to_baseline"] for row in table["systems"]):
        told.append(
            "The p is that of a paired bootstrap over the lines of the test: "
            f"{RESAMPLES:,} resamples, seed {SEED}."
        )
    signatures = [run["signature"] for row in table["systems"] for run in row["runs"] if run["signature"]]
    parts = ["".join("| " + " | ".join(line) + " |\n" for line in lines), " ".join(told) + "\n"]
    for system, found in table["search"].items():
        chosen = ", ".join(f"{name} {shown(value)}" for name, value in found["settings"].items())
        which = f"{system}: trial {found['trial']} of {len(found['trials'])}, {chosen}"
        value = f"{found['value']:.{digits_of(table['validation_metric'] or '')}f}"
        parts.append(f"{which}; validation {value} at the end of the search.\n")
    if table["warnings"]:
        parts.append("".join(f"* {line}\n" for line in table["warnings"]))
    if signatures:
        parts.append("".join(f"    {line}\n" for line in signatures))
    return "\n".join(parts)


def as_csv(table: Mapping[str, Any]) -> str:
    """The table as CSV, a row a system, numbers as they are."""
    heads = ["system", "depth", "parameters", "width"]
    spreads = [
        "test",
        "validation",
        "tokens_per_second",
        "update_milliseconds",
        "goal_seconds",
        "seconds",
        "processor_seconds",
        "busy",
        "steps",
        "passes",
    ]
    heads += [f"{name}_{of}" for name in spreads for of in SPREAD]
    heads += ["peak_bytes", *(f"interval_{of}" for of in INTERVAL), *COMPARED]
    heads += [f"{name}_{of}" for name in table["further"] for of in (*SPREAD, *INTERVAL, *COMPARED)]
    kinds = ["first_token", "later_tokens", "encoding", "sentences"]
    heads += [f"{kind}_{of}" for kind in kinds for of in ("p50", "p90")]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, heads, lineterminator="\n")
    writer.writeheader()
    for row in table["systems"]:
        flat = {name: row[name] for name in ("system", "depth", "parameters", "width", "peak_bytes")}
        for name in spreads:
            flat |= {f"{name}_{of}": value for of, value in (row[name] or {}).items()}
        flat |= {f"interval_{of}": value for of, value in zip(INTERVAL, row["interval"] or ())}
        flat |= _to_baseline(row)
        for name in table["further"]:
            one = row["further"][name]
            own = {**(one["test"] or {}), **dict(zip(INTERVAL, one["interval"] or ())), **_to_baseline(one)}
            flat |= {f"{name}_{of}": value for of, value in own.items()}
        for kind in kinds:
            found = (row["latency"] or {}).get(kind, {})
            flat |= {f"{kind}_{of}": found.get(of) for of in ("p50", "p90")}
        writer.writerow({name: "" if value is None else value for name, value in flat.items()})
    return stream.getvalue()


def _to_baseline(row: Row) -> dict[str, Any]:
    found = row["to_baseline"]
    values = {} if found is None else {**found, "compared_n": len(found["seeds"])}
    return {name: values.get(name) for name in COMPARED}


def search_csv(search: Mapping[str, Any]) -> str:
    """The log of a search as CSV: a row a trial, with the best validation by the end of each round."""
    names = list(
        dict.fromkeys(n for one in search.values() for trial in one["trials"].values() for n in trial)
    )
    rounds = max(len(one["rounds"]) for one in search.values())
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["system", "trial", *names, *(f"round {n + 1}" for n in range(rounds)), "chosen"])
    for system, one in search.items():
        for number, values in one["trials"].items():
            scores = [found["scores"].get(number) for found in one["rounds"]]
            scores += [None] * (rounds - len(scores))
            given = [shown(values.get(name)) for name in names]
            told = ["" if score is None else score for score in scores]
            writer.writerow([system, number, *given, *told, "yes" if int(number) == one["trial"] else ""])
    return stream.getvalue()


def _number(spread: Mapping[str, float] | None, digits: int) -> str:
    if spread is None:
        return ""
    text = f"{spread['mean']:,.{digits}f}"
    return text if spread["n"] < 2 else f"{text} ± {spread['deviation']:,.{digits}f} ({spread['n']})"


def _minutes(spread: Mapping[str, float] | None) -> str:
    if spread is None:
        return ""
    return _number({**spread, "mean": spread["mean"] / 60, "deviation": spread["deviation"] / 60}, 1)


def _measured(row: Row, name: str | None) -> Row:
    """What a row says of a measure, of the headline where it has no name."""
    return row if name is None else row["further"][name]


def _tested(row: Row, name: str | None, places: int) -> str:
    found = _measured(row, name)
    interval = found["interval"]
    return _number(found["test"], places) + (
        "" if interval is None else f" (95 % ± {interval[1]:.{places}f})"
    )


def _against(row: Row, name: str | None, places: int, seeds: Sequence[int]) -> str:
    found = _measured(row, name)["to_baseline"]
    if found is None:
        return ""
    # Where a seed is missing on either side this is not the difference of the means beside it.
    which = "" if len(found["seeds"]) == len(seeds) else f", seed {', '.join(map(str, found['seeds']))}"
    return f"{found['difference']:+.{places}f} (p = {found['p_value']:.3f}{which})"


def _to_goal(row: Row) -> str:
    found, every = row["goal_seconds"], len(row["runs"])
    few = found is not None and found["n"] < every
    return _minutes({**found, "n": 1}) + f" ({found['n']} of {every})" if few else _minutes(found)


def _time(row: Row, name: str, of: str) -> str:
    found = (row["latency"] or {}).get(name)
    return "" if found is None else f"{found[of]:.3f}"
