"""What tools/bench_decoding.py shows: its table, its ratios and its figure, of the report that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench_layers import shown

from seqsru.evaluation.plots import new_figure

HEADINGS = ("batch 1 greedy, ms", "batch 1 beam 5, ms", "batch 32 greedy, /s", "batch 32 beam 5, /s")


def text_of(report: dict[str, Any]) -> str:
    """Everything for people: the machine, times, ratios, and what they mean."""
    surroundings = report["environment"]
    versions = {**surroundings["versions"], **report["peers"]}
    loads = report["load_averages"]
    listed = ("seqsru", "numba", "ctranslate2", "pymarian")
    lines = [
        f"{surroundings['cpu']}, {surroundings['cores']} cores, load average {min(loads)} to {max(loads)}, "
        f"{report['repeats']} repeats",
        ", ".join(f"{name} {versions[name]}" for name in listed if name in versions),
        "",
        "milliseconds a token (batch 1) and tokens a second (batch 32), median [quartiles]",
        table(report["rows"]),
    ]
    if report["ratios"]:
        lines += ["", "time of seqsru over that of a peer, in one repeat", ratio_table(report["ratios"])]
    lines += ["", "Forced to equal lengths:"]
    kinds = dict.fromkeys(row["kind"] for row in report["rows"])
    lines += [f"  {kind}: {text}" for kind, text in report["forced"].items() if kind in kinds]
    lines += [f"Note: {note}" for note in report["notes"]]
    lines += [f"Left out: {name}: {reason}" for name, reason in report["left_out"].items()]
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """One line a system; a number of threads other than one stands behind its time."""
    lines = [f"{'':<30}" + "".join(f"  {heading:>26}" for heading in HEADINGS)]
    for name in dict.fromkeys(row["system"] for row in rows):
        line = f"{name:<30}"
        for row in (row for row in rows if row["system"] == name):
            one = row["batch"] == 1
            text = shown(row["ms_a_token"], 3) if one else shown(row["tokens_a_second"], 0)
            note = "" if row["threads"] == 1 else f" ({row['threads']} thr.)"
            line += f"  {text + note:>26}"
        lines.append(line)
    return "\n".join(lines)


def ratio_table(ratios: list[dict[str, Any]]) -> str:
    """One line a system of seqsru and setting, one column a peer."""
    peers = list(dict.fromkeys(row["peer"] for row in ratios))
    lines = [f"{'':<46}" + "".join(f"  {peer:>26}" for peer in peers)]
    for setting in dict.fromkeys((row["batch"], row["search"]) for row in ratios):
        rows = [row for row in ratios if (row["batch"], row["search"]) == setting]
        for name in dict.fromkeys(row["system"] for row in rows):
            found = {row["peer"]: row["ratio"] for row in rows if row["system"] == name}
            start = f"batch {setting[0]} {setting[1]}"
            lines.append(
                f"{start:<16}{name:<30}" + "".join(f"  {shown(found[peer], 3):>26}" for peer in peers)
            )
    return "\n".join(lines)


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw each time as a point on its quartiles: milliseconds at batch 1, tokens a second at batch 32."""
    names = list(dict.fromkeys(row["system"] for row in report["rows"]))
    figure = new_figure(path, width=11.0, height=1.8 + 0.3 * len(names))
    from matplotlib.ticker import LogLocator  # once it is known to be installed

    panels = figure.subplots(1, 2, sharey=True)
    kinds = ((1, "ms_a_token", "milliseconds a token"), (32, "tokens_a_second", "tokens a second"))
    for axes, (batch, unit, label) in zip(panels, kinds):
        for row in (row for row in report["rows"] if row["batch"] == batch):
            value, greedy = row[unit], row["search"] == "greedy"
            ends = [[value["median"] - value["q1"]], [value["q3"] - value["median"]]]
            axes.errorbar(
                value["median"],
                names.index(row["system"]) + (-0.15 if greedy else 0.15),
                xerr=ends,
                fmt="o" if greedy else "s",
                color="C0" if greedy else "C1",
                fillstyle="full" if row["kind"] == "seqsru" else "none",
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.tick_params(axis="x", labelsize=8)
        axes.set_xlabel(f"{label}, batch {batch}")
        axes.grid(True, which="both", alpha=0.3)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].invert_yaxis()
    surroundings, sizes, loads = report["environment"], report["sizes"], report["load_averages"]
    figure.suptitle(
        f"{surroundings['cpu']}, V {sizes['vocabulary']}, S {sizes['source']}, {sizes['target']} tokens, "
        f"{report['repeats']} repeats, load {min(loads)} to {max(loads)}\n"
        "circles greedy, squares beam 5; peers are hollow",
        fontsize=9,
    )
    figure.savefig(path, dpi=150)
