"""The plots of a comparison; matplotlib, the extra `plot`, draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqsru.evaluation.plots import new_figure, save

Row = Mapping[str, Any]
WIDE = 4.0  # times the least, from which on an axis is logarithmic


def plot_all(table: Mapping[str, Any], folder: Path) -> None:
    """Draw what there is: quality.png, curves.png, and against depth depth.png.

    Parameters
    ----------
    table : mapping
        What table.json has.
    folder : Path

    Raises
    ------
    NotInstalled
        matplotlib.
    """
    rows = [row for row in table["systems"] if row["runs"]]
    if not rows:
        return
    tested = [row for row in rows if row["test"] is not None and math.isfinite(row["test"]["mean"])]
    if tested:
        plot_quality(table, tested, folder / "quality.png")
    if any(value is not None for row in rows for run in row["runs"] for _, value in run["curve"]):
        plot_curves(table, rows, folder / "curves.png")
    if len({row["depth"] for row in rows if row["depth"] is not None}) > 1:
        plot_depth(table, rows, folder / "depth.png")


def plot_quality(table: Mapping[str, Any], rows: list[Row], path: Path) -> None:
    """Draw the test number of every training, a line a system, with its mean and how far that goes.

    Of a single training that is the interval of its resamples.
    """
    figure = new_figure(path, width=6.5, height=1.2 + 0.32 * len(rows))
    axes = figure.add_subplot()
    bars: list[str] = []
    for place, row in enumerate(rows):
        values = [run["test"] for run in row["runs"] if run["test"] is not None]
        axes.plot(values, [place] * len(values), "o", color="C0", alpha=0.4, markersize=5, markeredgewidth=0)
        mean, several = row["test"]["mean"], row["test"]["n"] > 1
        bars += ["one standard deviation"] * several
        low = high = row["test"]["deviation"]
        if row["interval"] is not None:
            middle, half = row["interval"]
            low, high = max(0.0, mean - middle + half), max(0.0, middle + half - mean)
            bars.append("95 % of the resamples of one test")
        drawn = several or row["interval"] is not None
        axes.errorbar(
            [mean],
            [place],
            xerr=[[low], [high]] if drawn else None,
            fmt="|",
            color="black",
            capsize=4,
            markersize=11,
        )
    axes.set_yticks(range(len(rows)), [row["system"] for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first one above
    axes.grid(True, axis="x", alpha=0.3)
    axes.set_xlabel(f"{table['split']} {table['measure']}, {_better(table['higher_is_better'])}")
    told = " or ".join(dict.fromkeys(bars))
    axes.set_title(f"{table['budget']} each; dots are seeds" + (f", bars {told}" if told else ""), fontsize=9)
    save(figure, path)


def plot_curves(table: Mapping[str, Any], rows: list[Row], path: Path) -> None:
    """Draw every validation over the time of training, a colour a system, a line a seed."""
    figure = new_figure(path, width=7.0, height=4.2)
    axes = figure.add_subplot()
    longest = max(seconds for row in rows for run in row["runs"] for seconds, _ in run["curve"])
    unit, name = 60.0, table["time"]
    if longest < 120.0:
        unit, name = 1.0, name.replace("minutes", "seconds")
    for number, row in enumerate(rows):
        label = row["system"]
        for run in row["runs"]:
            points = [(seconds / unit, value) for seconds, value in run["curve"] if value is not None]
            if not points:
                continue
            style = "-" if number < 10 else "--"  # there are ten colours
            axes.plot(*zip(*points), style, marker=".", color=f"C{number % 10}", linewidth=1.2, label=label)
            label = "_"  # one line of a system is in the legend
    if table["goal"] is not None:
        axes.axhline(table["goal"], color="grey", linestyle=":", linewidth=1.0)
    if not table["validation_higher_is_better"]:
        _scale(axes, [v for row in rows for run in row["runs"] for _, v in run["curve"] if v is not None])
    axes.set_xlabel(f"{name} of training")
    axes.set_ylabel(f"validation {table['validation_metric']}")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)


def plot_depth(table: Mapping[str, Any], rows: list[Row], path: Path) -> None:
    """Draw quality, training speed and latency over depth, a line for each kind of cell."""

    def quality(row: Row) -> float | None:
        found = None if row["test"] is None else row["test"]["mean"]
        return found if found is not None and math.isfinite(found) else None

    def speed(row: Row) -> float | None:
        return None if row["tokens_per_second"] is None else row["tokens_per_second"]["mean"]

    def latency(name: str, of: str) -> Callable[[Row], float | None]:
        return lambda row: None if row["latency"] is None else row["latency"].get(name, {}).get(of)

    timed = [row["latency"] for row in rows if row["latency"] is not None]
    unit = timed[0]["unit"] if timed else "token"
    kind = "later_tokens" if unit == "token" else "sentences"
    panels: list[tuple[str, Callable[[Row], float | None], Callable[[Row], float | None] | None]] = [
        (f"{table['split']} {table['measure']}, {_better(table['higher_is_better'])}", quality, None),
        ("training tokens/s", speed, None),
    ]
    if timed:
        panels += [
            (f"ms a {unit}, batch 1: P50, P90 dashed", latency(kind, "p50"), latency(kind, "p90")),
            ("encoder ms, batch 1: P50", latency("encoding", "p50"), None),
        ]
    panels = [one for one in panels if any(one[1](row) is not None for row in rows)]
    rows = _one_at_a_depth(rows)
    labels = list(dict.fromkeys(row["label"] for row in rows))
    figure = new_figure(path, width=1.0 + 3.4 * len(panels), height=3.6)
    for place, (name, value, dashed) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for number, label in enumerate(labels):
            own = sorted((row for row in rows if row["label"] == label), key=lambda row: row["depth"])
            for function, style in ((value, "-o"), (dashed, "--")):
                points = [(row["depth"], function(row)) for row in own] if function is not None else []
                points = [(x, y) for x, y in points if y is not None]
                if points:
                    shown = label if style == "-o" else "_"
                    axes.plot(*zip(*points), style, color=f"C{number % 10}", markersize=4, label=shown)
        axes.set_xticks(sorted({row["depth"] for row in rows}))
        axes.set_xlabel(table["depth"].rpartition(".")[2].replace("_", " "), parse_math=False)
        axes.set_title(name, fontsize=9)
        axes.grid(True, alpha=0.3)
        if place:
            axes.set_ylim(bottom=0)
        else:
            axes.legend(fontsize=8)
            if not table["higher_is_better"]:
                _scale(axes, [one for row in rows if (one := quality(row)) is not None])
    save(figure, path)


def _scale(axes: Any, values: list[float]) -> None:
    """Make the y axis logarithmic where values are so far apart that the least could not be told apart."""
    if values and 0 < WIDE * min(values) < max(values):
        from matplotlib.ticker import LogLocator, NullLocator

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")


def _one_at_a_depth(rows: list[Row]) -> list[Row]:
    """The rows, those of one label and depth under the systems' names: variants of a cell are lines."""
    places = [(row["label"], row["depth"]) for row in rows]
    several = {label for label, depth in places if places.count((label, depth)) > 1}
    return [{**row, "label": row["system"]} if row["label"] in several else row for row in rows]


def _better(higher: bool | None) -> str:
    return "higher is better" if higher else "lower is better"
