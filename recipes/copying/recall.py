"""How much of the copy task runs remember, by the length of the gap.

python recipes/copying/recall.py RUN [RUN …] --json recall.json --plot recall.png

Reads the test text of each run's settings, with the last checkpoint. A run is named by its folder; runs
NAME-1, NAME-2, … are one system with several seeds, whose mean is given with the lowest and the highest. In
the plot a colour is a cell; one layer is a solid line, two are dashed, more are dotted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from seqsru import runs
from seqsru.data import read_lines
from seqsru.data.copying import parts
from seqsru.errors import Refused
from seqsru.evaluation.plots import new_figure
from seqsru.evaluation.recall import recall
from seqsru.evaluation.signature import machine, signature
from seqsru.models import LanguageModel

BEFORE = 8  # lines of the validation text that are read before each


def measured(run: Path) -> dict[str, Any]:
    """Accuracy of one run by gap, with its signature.

    Raises
    ------
    Refused
        It is no language model of the copy task.
    """
    trained = runs.open_run(run, checkpoint="last", average=1, device="cpu")
    model = trained.pipeline.model
    if not isinstance(model, LanguageModel):
        raise Refused("a run of a language model", trained.task.noun, "name one of recipes/copying", "RUN")
    files = {split: trained.task.files(split) for split in ("test", "train", "validation")}
    for split, own in files.items():
        if len(own) != 1:
            raise Refused(f"a run with one {split} text", len(own), "name one of recipes/copying", "RUN")
    (test,), (train,), (valid,) = files.values()
    lines = read_lines(test).lines
    found = recall(model, trained.pipeline.tokenizer, lines, before=read_lines(valid).lines[:BEFORE])
    device = next(model.parameters()).device
    model_fields = trained.task.fields(model)
    fields = {
        **model_fields,
        "data": test.name,
        "lines": len(lines),
        "before": BEFORE,
        "weights": trained.weights,
        "seed": trained.task.settings["seed"],
        **machine(device),
    }
    return {
        "system": re.sub(r"-\d+$", "", run.name),
        "run": run.name,
        "cell": model_fields["cell"],
        "layers": model_fields["layers"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "learned": max(parts(line)[0] for line in read_lines(train).lines),
        "accuracy": {str(one.gap): one.accuracy for one in found},
        "error": {str(one.gap): one.error for one in found},
        "signature": signature(fields),
    }


def by_system(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each system the mean of per cent over its runs, with the lowest and highest, by gap."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["system"], []).append(row)
    found: dict[str, dict[str, Any]] = {}
    for system, group in groups.items():
        columns = {gap: [100 * row["accuracy"][gap] for row in group] for gap in group[0]["accuracy"]}
        found[system] = {
            "runs": len(group),
            **{key: group[0][key] for key in ("cell", "layers", "parameters", "signature")},
            "percent": {gap: mean(column) for gap, column in columns.items()},
            "low": {gap: min(column) for gap, column in columns.items()},
            "high": {gap: max(column) for gap, column in columns.items()},
        }
    return found


def table(systems: dict[str, dict[str, Any]]) -> str:
    """The systems in Markdown: a row a system, a column a gap, in per cent."""
    head = ["system", "parameters", "runs", *next(iter(systems.values()))["percent"]]
    lines = [head, ["---"] * len(head)]
    for name, one in systems.items():
        shares = [f"{share:.0f}" for share in one["percent"].values()]
        lines.append([name, f"{one['parameters']:,}", str(one["runs"]), *shares])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(systems: dict[str, dict[str, Any]], learned: int, path: Path) -> None:
    """Draw what is recalled against the gap, the range over the runs as a band."""
    figure = new_figure(path, width=7.6, height=4.4)
    axes = figure.add_subplot()
    gaps = [int(gap) for gap in next(iter(systems.values()))["percent"]]
    cells = list(dict.fromkeys(one["cell"] for one in systems.values()))
    for name, one in systems.items():
        colour, style = f"C{cells.index(one['cell']) % 10}", {1: "-", 2: "--"}.get(one["layers"], ":")
        middle, low, high = (list(one[key].values()) for key in ("percent", "low", "high"))
        axes.plot(gaps, middle, "o" + style, color=colour, markersize=3, label=name)
        axes.fill_between(gaps, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.axvspan(0, learned, color="0.94", zorder=0)
    axes.axhline(100 / 8, color="0.6", linewidth=0.8)  # symbols of `seqsru fetch copying`
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xticks([gap for gap in gaps if gap & (gap - 1) == 0], minor=False)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(-0.05, 1.05 * gaps[-1] + 1)
    axes.set_ylim(0, 103)
    axes.set_xlabel("steps between the symbols and the cue (grey: those that were learned from)")
    axes.set_ylabel("% of symbols recalled (line: a guess)")
    axes.grid(True, alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> int:
    """Measure the runs, print the table, and write what the flags name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, with their signatures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw accuracy against the gap")
    given = parser.parse_args(arguments)
    try:
        rows = [measured(run) for run in given.runs]
        systems = by_system(rows)
        print(table(systems))
        for row in rows:
            print(row["signature"])
        if given.json is not None:
            report = {"systems": systems, "runs": rows}
            given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        if given.plot is not None:
            draw(systems, max(row["learned"] for row in rows), given.plot)
    except Refused as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
