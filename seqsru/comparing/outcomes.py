"""What a training came to, read from its run directory."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqsru.errors import Refused
from seqsru.regular import read
from seqsru.settings import Values
from seqsru.training import RunDirectory
from seqsru.training.resume import newest

MOST = 2**28  # bytes of metrics


def trained(run: Path, settings: Values) -> dict[str, Any]:
    """What the comparison keeps of a training.

    Parameters
    ----------
    run : Path
        Its directory; the training has ended.
    settings : Values
        Its settings.

    Returns
    -------
    dict
        ``metric`` and ``higher_is_better`` of the validation; ``best`` and the ``curve`` of it, as pairs of
        seconds and value (None where it was no finite number), and ``processor_curve``, with the seconds of
        the processors, None where an earlier version trained; ``steps`` and whole ``epochs`` that were made;
        ``passes`` over the data, the share of the last one included, None where nothing says how long one is;
        ``seconds``, ``processor_seconds`` and ``threads`` of the training; ``peak_bytes``;
        ``tokens_per_second``, the median of the lines of metrics, None where there is none; and
        ``update_milliseconds``, the median over the pairs of them that no validation came between.

    Raises
    ------
    Refused
        There is nothing, or something else.
    """
    directory = RunDirectory(run)
    found = newest(directory)
    if found is None or found.record["validation"] is None:
        raise Refused(f"the end of a training in {run}", "none", "see its log")
    found.release()
    progress, validation = found.record["progress"], found.record["validation"]
    name, higher = validation["metric"], validation["higher_is_better"]
    lines = [json.loads(text) for text in read(directory.metrics, MOST, "train again").splitlines()]
    valid = [line for line in lines if line["kind"] == "valid"]
    curve = [(line["seconds"], line[name]) for line in valid]
    noted = all("processor_seconds" in line for line in valid)
    speeds = [line["tokens_per_second"] for line in lines if line["kind"] == "train"]
    values = [value for _, value in curve if value is not None]
    return {
        "metric": name,
        "higher_is_better": higher,
        "best": (max(values) if higher else min(values)) if values else None,
        "curve": curve,
        "processor_curve": [(line["processor_seconds"], line[name]) for line in valid] if noted else None,
        "steps": progress["step"],
        "epochs": progress["epoch"] - 1,
        "passes": _passes(found.record, settings["training"]),
        "seconds": progress["seconds"],
        "processor_seconds": progress.get("processor_seconds", 0.0),
        "threads": found.record.get("machine", {}).get("threads", 1),
        "peak_bytes": progress.get("peak_bytes", 0),
        # The first line has the start in it: what is compiled, and read for the first time.
        "tokens_per_second": statistics.median(speeds[1:] or speeds) if speeds else None,
        "update_milliseconds": _update_milliseconds(lines),
    }


def _passes(record: Mapping[str, Any], training: Values) -> float | None:
    """Passes over the data, counted in updates."""
    progress, whole = record["progress"], record["progress"]["epoch"] - 1
    begun = -(-progress["batch"] // training["accumulate"])  # updates of the last pass
    if whole:
        return float(whole + begun / ((progress["step"] - begun) / whole))
    if training["steps"] or not record["total_steps"]:
        return None
    return float(begun * training["epochs"] / record["total_steps"])


def _update_milliseconds(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """The usual time of an update by the clock, None where no two lines of training follow one another."""
    times = [
        1e3 * (one["seconds"] - before["seconds"]) / (one["step"] - before["step"])
        for before, one in zip(lines, lines[1:])
        if before["kind"] == one["kind"] == "train"
    ]
    return statistics.median(times) if times else None


def reached(curve: Sequence[Sequence[float | None]], goal: float, higher_is_better: bool) -> float | None:
    """Seconds until a validation was at least as good as a goal; None where none was."""
    for seconds, value in curve:
        if value is not None and (value >= goal if higher_is_better else value <= goal):
            return seconds
    return None


def busy(result: dict[str, Any]) -> float:
    """Share of its threads' time that a training had processors for."""
    wall: float = result["seconds"] * result["threads"]
    share: float = result["processor_seconds"] / wall if wall else math.nan
    return share
