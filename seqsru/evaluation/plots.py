"""Plots of what was measured, as PNG, SVG or PDF by the file's name; matplotlib, the extra `plot`, draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqsru.evaluation.translation import Translation

SUFFIXES = (".png", ".svg", ".pdf")


def plot_latency(report: dict[str, Any], path: str | Path) -> None:
    """Draw a latency report: what share of the tokens took at most how long.

    One curve a system and kind (first tokens dashed, later ones solid), with marks at P50, P90 and P99, on a
    logarithmic axis of milliseconds.

    Parameters
    ----------
    report : dict
        From :func:`seqsru.evaluation.latency.measure`.
    path : path
        File to write; its suffix is .png, .svg or .pdf.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        Another suffix.
    """
    figure = new_figure(path, width=7.0, height=4.2)
    axes = figure.add_subplot()
    for number, system in enumerate(report["systems"]):
        for kind, style in (("later_tokens", "-"), ("first_token", "--")):
            times = system[kind]
            label = f"{system['name']}, {kind.replace('_', ' ')}: P50 {times['p50']:.2f} ms"
            axes.plot(times["percentiles"], range(101), style, color=f"C{number}", label=label)
            marks = [times[key] for key in ("p50", "p90", "p99")]
            axes.plot(marks, [50, 90, 99], "o", color=f"C{number}", markersize=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("milliseconds a token, batch 1")
    axes.set_ylabel("% of tokens at or below")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    protocol, surroundings = report["protocol"], report["environment"]
    axes.set_title(
        f"{surroundings['device_name']}, {protocol['threads']} thread(s), {protocol['mode']} length, "
        f"{protocol['lines']} lines x {protocol['repeats']}",
        fontsize=9,
    )
    figure.savefig(path, dpi=150)


def new_figure(path: str | Path, width: float, height: float):
    """Give an empty matplotlib figure of a size in inches, for a file of that name.

    It belongs to no window and to no global state of matplotlib, so it needs no display.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        The file's suffix is not one of `SUFFIXES`.
    """
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"plot: expected a file ending in {', '.join(SUFFIXES)}, found {path}; rename it")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            f"plot: expected matplotlib to draw {path}, found it not installed; "
            'run: pip install "seqsru[plot]"'
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def plot_attention(translation: Translation, path: str | Path) -> None:
    """Draw where a translation looked: a row for each target token, a column for each source token.

    Parameters
    ----------
    translation : Translation
        From `TranslationPipeline.translate` with ``attention=True``.
    path : path
        File to write; its suffix is .png, .svg or .pdf.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        The translation carries no attention, or another suffix.
    """
    if translation.attention is None:
        raise ValueError(
            "plot: expected a translation with its attention, found none; translate a line that "
            "is not empty, with attention=True"
        )
    rows, columns = translation.attention.shape
    figure = new_figure(path, width=1.8 + 0.36 * columns, height=1.2 + 0.3 * rows)
    axes = figure.add_subplot()
    image = axes.imshow(translation.attention.numpy(), cmap="Greys", vmin=0.0, vmax=1.0, aspect="auto")
    # parse_math: a dollar sign in a label is a dollar sign
    axes.set_xticks(range(columns), translation.source_labels, rotation=90, parse_math=False)
    axes.set_yticks(range(rows), translation.target_labels, parse_math=False)
    axes.xaxis.tick_top()
    figure.colorbar(image, ax=axes, label="attention")
    figure.savefig(path, dpi=150)
