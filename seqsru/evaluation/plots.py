"""Plots of what was measured, as PNG, SVG or PDF by the file's name; matplotlib, the extra `plot`, draws."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from seqsru.data.outputs import write_output
from seqsru.errors import NotInstalled, Refused
from seqsru.evaluation.classification import ClassificationScore
from seqsru.evaluation.latency_report import LatencyReport, TimeName

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")


def plot_latency(report: LatencyReport, path: str | Path) -> None:
    """Draw a latency report: what share of the tokens took at most how long.

    One curve a system and kind (first tokens dashed, later ones solid), with marks at P50, P90 and P99, on a
    logarithmic axis of milliseconds. Of decoders without steps: whole lines solid, the model alone dashed.

    Parameters
    ----------
    report : LatencyReport
        From :func:`seqsru.evaluation.latency.measure`.
    path : path
        File to write; its suffix is .png, .svg or .pdf.

    Raises
    ------
    NotInstalled
        matplotlib.
    Refused
        Another suffix.
    """
    figure = new_figure(path, width=7.0, height=4.2)
    axes = figure.add_subplot()
    unit, solid, dashed = _latency_kinds(report)
    for number, system in enumerate(report["systems"]):
        for kind, style in ((solid, "-"), (dashed, "--")):
            times = system[kind]
            label = f"{system['name']}, {kind.replace('_', ' ')}: P50 {times['p50']:.2f} ms"
            axes.plot(times["percentiles"], range(101), style, color=f"C{number}", label=label)
            marks = [times["p50"], times["p90"], times["p99"]]
            axes.plot(marks, [50, 90, 99], "o", color=f"C{number}", markersize=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel(f"milliseconds a {unit}, batch 1")
    axes.set_ylabel(f"% of {unit}s at or below")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    protocol, surroundings = report["protocol"], report["environment"]
    mode = f"{protocol['mode']} length, " if unit == "token" else ""
    axes.set_title(
        f"{surroundings['device_name']}, {protocol['threads']} thread(s), {mode}"
        f"{protocol['lines']} lines x {protocol['repeats']}",
        fontsize=9,
    )
    save(figure, path)


def plot_attention(
    weights: ArrayLike, source_labels: Sequence[str], target_labels: Sequence[str], path: str | Path
) -> None:
    """Draw where a decoder looked: a row for each target token, a column for each source token.

    Parameters
    ----------
    weights : array of shape (target length, source length)
        From 0 to 1; a tensor is one on the CPU.
    source_labels, target_labels : sequence of str
        What stands at the columns and the rows.
    path : path
        File to write; its suffix is .png, .svg or .pdf.

    Raises
    ------
    NotInstalled
        matplotlib.
    Refused
        There are no weights, another number than one for each pair of labels, or another suffix.
    """
    array = np.asarray(weights)
    rows, columns = len(target_labels), len(source_labels)
    if not array.size or array.shape != (rows, columns):
        raise Refused(
            f"weights for {rows} target and {columns} source tokens",
            "none" if weights is None else f"an array of shape {array.shape}",
            "translate a line that is not empty, with attention=True",
            "weights",
        )
    figure = new_figure(path, width=1.8 + 0.36 * columns, height=1.2 + 0.3 * rows)
    axes = figure.add_subplot()
    image = axes.imshow(array, cmap="Greys", vmin=0.0, vmax=1.0, aspect="auto")
    # parse_math: a dollar sign in a label is a dollar sign
    axes.set_xticks(range(columns), source_labels, rotation=90, parse_math=False)
    axes.set_yticks(range(rows), target_labels, parse_math=False)
    axes.xaxis.tick_top()
    figure.colorbar(image, ax=axes, label="attention")
    save(figure, path)


def plot_confusion(score: ClassificationScore, path: str | Path) -> None:
    """Draw a confusion matrix: a row for each gold label, a column for each predicted one.

    The number in a field counts its lines; its colour is their share of the row, so that a rare label shows
    as clearly as a frequent one.

    Parameters
    ----------
    score : ClassificationScore
        What to draw.
    path : path
        File to write; its suffix is .png, .svg or .pdf.

    Raises
    ------
    NotInstalled
        matplotlib.
    Refused
        Another suffix.
    """
    counts = np.array(score.counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # the row of a label without lines is 0
    size = len(score.labels)
    longest = max(map(len, score.labels))
    cell = 0.24 + 0.085 * len(str(counts.max()))  # room for the largest count
    side = max(1.8, cell * size)
    width = 2.0 + 0.08 * longest + side
    figure = new_figure(path, width=width, height=1.2 + 0.08 * longest + side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row in range(size):
        for column in range(size):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(size), score.labels, rotation=90, parse_math=False)
    axes.set_yticks(range(size), score.labels, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    axes.set_title(
        f"accuracy {score.accuracy:.4f}, macro F1 {score.macro_f1:.4f}, {score.total} lines", fontsize=9
    )
    # a bar as long as the matrix and always as thin
    figure.colorbar(image, ax=axes, label="share of the gold label", fraction=0.3 / width, aspect=side / 0.15)
    save(figure, path)


def new_figure(path: str | Path, width: float, height: float, setting: str = "plot") -> Figure:
    """Give an empty matplotlib figure of a size in inches, for a file of that name.

    It belongs to no window and to no global state of matplotlib, so it needs no display. A refusal names the
    `setting` that the file was given for.

    Raises
    ------
    NotInstalled
        matplotlib.
    Refused
        The file's suffix is not one of `SUFFIXES`.
    """
    if Path(path).suffix not in SUFFIXES:
        raise Refused(f"a file ending in {', '.join(SUFFIXES)}", str(path), "rename it", setting)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NotInstalled(
            f"matplotlib to draw {path}", "it not installed", 'run: pip install "seqsru[plot]"', setting
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure of `new_figure`."""
    drawn = BytesIO()
    figure.savefig(drawn, format=Path(path).suffix[1:], dpi=150)
    write_output(path, drawn.getvalue())


def _latency_kinds(report: LatencyReport) -> tuple[str, TimeName, TimeName]:
    """Return what a time is of, and which times are drawn solid and dashed."""
    if "first_token" in report["systems"][0]:
        return "token", "later_tokens", "first_token"
    return "line", "sentences", "encoding"
