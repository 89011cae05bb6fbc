"""Measure how long a token takes against the number of layers, for cells that are all compiled alike.

    python tools/bench_depth.py --out depth.json --plot depth.png
    python tools/bench_depth.py --cells sru,lstm --depths 1,2,10 --repeats 5

Each system is a language model of random weights on the compiled engine: a stack of one cell, greedy search,
batch 1, one thread, outputs forced to one length. Its vocabulary is 16 types, so that a token is the step of
the layers and little else; what an output product of 8,000 types adds is measured beside it.

*equal width*: every layer of every cell has the same width, so a cell with more products a layer has more
weights, and so has a deeper stack. *equal parameters*: cell and depth share one number of weights, that of
two LSTM layers of that width, as nearly as widths in steps of 16 allow; a deeper stack is narrower.

Last come SRU layers over two LSTM layers of equal width: ten, ten whose products go through a projection to a
quarter of the width, and how many take no longer than the two.

Only ratios inside one run mean anything on a shared machine. So the systems take turns: in each of the
repeats every system decodes one line, forwards through the list and then backwards, with the clock inside the
compiled call. Its number is the median over the line's tokens, without the first, before which others had the
caches. Medians of these and their quartiles are printed; a ratio divides two numbers of one repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench_layers import shown, spread

from seqsru.cells import CELLS, Stack
from seqsru.decoding import Decoding
from seqsru.errors import Refused
from seqsru.evaluation.environment import environment
from seqsru.evaluation.plots import new_figure
from seqsru.models.language_model import LanguageModel
from seqsru.pipelines.compiled import CompiledModel
from seqsru.pipelines.lowering import LOWERED, lowered

CELL_NAMES = ("sru", "qrnn", "lstm", "gru")
PRECISIONS = ("int8", "float32")
WIDTH, PARAMETERS = "equal width", "equal parameters"
EOS, SMALL, LARGE = 0, 16, 8000  # the end, and sizes of a vocabulary
STEP = 16  # of widths
Times = dict["System", list[float]]  # microseconds a token, a repeat


@dataclass(frozen=True)
class System:
    """A stack to measure; `sizing` says what it has in common with the others."""

    cell: str
    layers: int
    width: int
    precision: str
    sizing: str
    vocabulary: int = SMALL
    projection: int = 0

    def stack(self) -> Stack:
        """The layers, as they are drawn."""
        options = {"projection_size": self.projection} if self.projection else None
        return Stack(self.cell, self.width, self.width, self.layers, options=options)


def main(arguments: list[str] | None = None) -> int:
    """Measure as the flags say, print and perhaps write the tables."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    able = [name for name, kind in CELLS.items() if kind in LOWERED]
    parser.add_argument(
        "--cells",
        default=",".join(CELL_NAMES),
        help=f"cells, separated by commas, among {', '.join(able)} (default: %(default)s)",
    )
    parser.add_argument(
        "--depths",
        default=",".join(map(str, range(1, 11))),
        help="numbers of layers, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--width", type=int, default=256, help="of equal width (default: %(default)s)")
    parser.add_argument(
        "--precisions", default=",".join(PRECISIONS), help="separated by commas (default: %(default)s)"
    )
    parser.add_argument("--tokens", type=int, default=40, help="of a line (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=25, help="turns of each system (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="file for the numbers, as JSON")
    parser.add_argument("--plot", type=Path, help="file to draw to: .png, .svg or .pdf")
    given = parser.parse_args(arguments)
    try:
        cells, precisions = given.cells.split(","), given.precisions.split(",")
        depths = sorted({at_least(1, "layers", text) for text in given.depths.split(",")})
        for names, known, what in ((cells, able, "cells"), (precisions, PRECISIONS, "precisions")):
            for name in names:
                if name not in known:
                    raise ValueError(f"expected {what} among {', '.join(known)}, found {name!r}")
        for least, what in ((STEP, "width"), (3, "tokens"), (1, "repeats")):
            at_least(least, what, str(vars(given)[what]))
        if given.plot is not None:
            new_figure(given.plot, width=1.0, height=1.0)  # can it be drawn? asked before the work
    except (ValueError, Refused) as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    wanted = systems(cells, depths, precisions, given.width)
    loads = [os.getloadavg()[0]]
    times = take_turns(wanted, given.tokens, given.repeats)
    loads.append(os.getloadavg()[0])
    report = {
        "environment": environment(torch.device("cpu")),
        "load_averages": [round(load, 2) for load in loads],
        "tokens": given.tokens,
        "repeats": given.repeats,
        "width": given.width,
        "rows": [
            {**asdict(system), "parameters": count(system), "us": spread(times[system])} for system in wanted
        ],
        "ratios": ratios(times, given.width),
    }
    print(text_of(report))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if given.plot:
        given.plot.parent.mkdir(parents=True, exist_ok=True)
        draw(report, given.plot)
    return 0


def at_least(least: int, what: str, text: str) -> int:
    """Read a number that has to be at least so much."""
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"expected at least {least} {what}, found {text!r}")
    return int(text)


def systems(
    cells: Sequence[str], depths: Sequence[int], precisions: Sequence[str], width: int
) -> list[System]:
    """Everything that is timed."""
    budget = count(System("lstm", 2, width, "float32", PARAMETERS))
    found = []
    for precision in precisions:
        for layers in depths:
            for cell in cells:
                narrow = width_for(cell, layers, budget)
                found.append(System(cell, layers, width, precision, WIDTH))
                found.append(System(cell, layers, narrow, precision, PARAMETERS))
        for vocabulary in (SMALL, LARGE):
            found.append(System("sru", 1, width, precision, "output", vocabulary))
        found.append(System("sru", 10, width, precision, "projection", projection=width // 4))
    return found


def count(system: System) -> int:
    """Parameters of the layers."""
    with torch.device("meta"):  # shapes only
        return sum(parameter.numel() for parameter in system.stack().parameters())


def width_for(cell: str, layers: int, parameters: int) -> int:
    """The width, in steps of 16, at which the layers come nearest to so many parameters."""
    width = STEP
    best, distance = width, parameters
    while True:
        off = count(System(cell, layers, width, "float32", PARAMETERS)) - parameters
        if abs(off) < distance:
            best, distance = width, abs(off)
        if off >= 0:
            return best
        width += STEP


def take_turns(wanted: Sequence[System], tokens: int, repeats: int) -> Times:
    """Microseconds a token of each system, one number a repeat."""
    models = {system: made(system, tokens) for system in wanted}
    for model in models.values():
        decode(model, tokens)  # compiles, and makes its memory
    times: Times = {system: [] for system in wanted}
    for repeat in range(repeats):
        turns = list(models.items())
        for system, model in turns[::-1] if repeat % 2 else turns:
            times[system].append(median(decode(model, tokens)))
    return times


def made(system: System, tokens: int) -> CompiledModel:
    """A model of random weights, forced to so many tokens."""
    torch.manual_seed(0)
    model = LanguageModel(system.vocabulary, system.stack(), system.width).eval()
    return CompiledModel(lowered(model, int8=system.precision == "int8"), fewest=tokens, clock=[])


def decode(model: CompiledModel, tokens: int) -> list[float]:
    """Decode one line; microseconds of each token but the first."""
    assert model.clock is not None
    model.clock.clear()
    ((found,),) = model.search([[EOS]], [EOS], eos=EOS, decoding=Decoding(beam=1), limits=[tokens])
    if len(found.tokens) != tokens:
        raise RuntimeError(f"expected {tokens} tokens, found {len(found.tokens)}")
    gaps: list[float] = (np.diff(model.clock[0])[2:] / 1e3).tolist()
    return gaps


def ratios(times: Times, width: int) -> list[dict[str, Any]]:
    """SRU stacks over two LSTM layers of the same width, where those were timed."""
    rows = []
    for system in times:
        two = System("lstm", 2, width, system.precision, WIDTH)
        if system.cell == "sru" and system.sizing in (WIDTH, "projection") and two in times:
            each = [own / base for own, base in zip(times[system], times[two])]
            key = {name: getattr(system, name) for name in ("precision", "layers", "projection")}
            rows.append({**key, "ratio": spread(each)})
    return rows


def text_of(report: dict[str, Any]) -> str:
    """Everything for people: the machine, a table a precision and sizing, and the comparison."""
    surroundings, loads = report["environment"], report["load_averages"]
    lines = [
        f"{surroundings['cpu']}, one thread, load average {min(loads)} to {max(loads)}, {report['repeats']} "
        f"repeats of {report['tokens']} tokens",
        "microseconds a token, median [quartiles]",
    ]
    for precision in dict.fromkeys(row["precision"] for row in report["rows"]):
        of_precision = [row for row in report["rows"] if row["precision"] == precision]
        for sizing in (WIDTH, PARAMETERS):
            lines += ["", f"{precision}, {sizing}"]
            lines += table([row for row in of_precision if row["sizing"] == sizing])
        small, large = (row["us"]["median"] for row in of_precision if row["sizing"] == "output")
        lines += ["", f"{precision}: an output of {LARGE:,} types adds {large - small:.1f} to {small:.1f}"]
    lines += ["", *(comparison(report["ratios"], report["width"]))]
    return "\n".join(lines).rstrip()


def comparison(rows: list[dict[str, Any]], width: int) -> list[str]:
    """One line a precision and ratio that is of interest."""
    lines = []
    for precision in dict.fromkeys(row["precision"] for row in rows):
        own = [row for row in rows if row["precision"] == precision]
        for row in (row for row in own if row["layers"] == 10):
            through = f" with a projection to {row['projection']}" if row["projection"] else ""
            ratio = shown(row["ratio"], 2)
            lines.append(f"{precision}, width {width}: 10 x sru{through} / 2 x lstm, a step: {ratio}")
        plain = [row for row in own if not row["projection"]]
        fast = [row["layers"] for row in plain if row["ratio"]["median"] <= 1]
        if fast:
            lines.append(f"{precision}, width {width}: no slower than 2 x lstm: up to {max(fast)} x sru")
    return lines


def table(rows: list[dict[str, Any]]) -> list[str]:
    """One line a depth, one column a cell; widths stand behind a time where they differ."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    same = len({row["width"] for row in rows}) == 1
    lines = [f"{'layers':>6}" + "".join(f"  {cell:>26}" for cell in cells)]
    for layers in dict.fromkeys(row["layers"] for row in rows):
        found = {row["cell"]: row for row in rows if row["layers"] == layers}
        line = f"{layers:>6}"
        for cell in cells:
            width = "" if same else f" ({found[cell]['width']})"
            line += f"  {shown(found[cell]['us'], 1) + width:>26}"
        lines.append(line)
    return lines


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw time against depth, with the quartiles as a band: a panel a precision and sizing."""
    precisions = list(dict.fromkeys(row["precision"] for row in report["rows"]))
    figure = new_figure(path, width=10.0, height=0.9 + 3.3 * len(precisions))
    panels = figure.subplots(len(precisions), 2, sharex=True, sharey="row", squeeze=False)
    for precision, line in zip(precisions, panels):
        for sizing, axes in zip((WIDTH, PARAMETERS), line):
            rows = [row for row in report["rows"] if (row["precision"], row["sizing"]) == (precision, sizing)]
            for number, cell in enumerate(dict.fromkeys(row["cell"] for row in rows)):
                own = [row for row in rows if row["cell"] == cell]
                depths = [row["layers"] for row in own]
                middle, low, high = ([row["us"][name] for row in own] for name in ("median", "q1", "q3"))
                axes.plot(depths, middle, "o-", color=f"C{number}", markersize=3, label=cell)
                axes.fill_between(depths, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
            axes.set_ylim(bottom=0)
            axes.set_title(f"{precision}, {sizing}", fontsize=9)
            axes.grid(True, alpha=0.3)
        line[0].set_ylabel("microseconds a token")
    for axes in panels[-1]:
        axes.set_xlabel("layers")
    panels[0][0].legend(fontsize=8)
    surroundings, loads = report["environment"], report["load_averages"]
    figure.suptitle(
        f"{surroundings['cpu']}, one thread, batch 1, greedy, {report['repeats']} repeats, "
        f"load {min(loads)} to {max(loads)},\nwidth {report['width']}, or the weights of two LSTM layers",
        fontsize=9,
    )
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
