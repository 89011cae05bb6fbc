"""How parallel a recurrent layer is: its speed against steps and rows, and what the scan takes of it.

    python tools/bench_parts.py --threads 1 --out parts.json --plot parts.png

An SRU layer is a matrix product for all steps at once, and a scan in which c waits for c of the step before.
Both are timed alone, the layer as it is, and beside it an LSTM of torch of the same width, whose every step
waits for a product. *forward* runs without gradients, *training* is forward and backward.

Only ratios inside one run mean anything on a shared machine. So they take turns, and a ratio divides two
times of one repeat; its median is printed with its quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench_layers import PASSES, passes, shown, spread, take_turns

from seqsru.cells import SRU
from seqsru.errors import Refused
from seqsru.evaluation.environment import environment
from seqsru.evaluation.plots import new_figure
from seqsru.ops import linear, sru_scan

STEPS, ROWS, WIDTH = (1, 4, 16, 64, 256), (1, 16, 64), 512


class Product(nn.Module):
    """The product of an SRU layer alone: (T, B, D) to (T, B, 3·D)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * size, size) / size**0.5)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (linear(x, self.weight),)


class Scan(nn.Module):
    """The scan of an SRU layer alone, over slices (T, B, 3·D) that are there."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(2, size))
        self.b = nn.Parameter(torch.zeros(2, size))

    def forward(self, u: Tensor) -> tuple[Tensor]:
        size = self.b.shape[1]
        slices = u.unflatten(-1, (3, size))
        h, _ = sru_scan(slices, u[..., :size], u.new_zeros(u.shape[1], size), self.v, self.b)
        return (h,)


def parts(T: int, B: int, D: int, precision: str = "float32") -> dict[str, dict[str, Callable[[], object]]]:
    """What is timed at a size: forward and training of the layer, its parts and the LSTM."""
    scan = Scan(D)
    u, gradient = torch.randn(T, B, 3 * D), torch.randn(T, B, D)
    leaf = u.clone().requires_grad_()

    def forward() -> Tensor:
        with torch.no_grad():
            return scan(u)[0]

    def training() -> tuple[Tensor, ...]:
        return torch.autograd.grad(scan(leaf)[0], [leaf, *scan.parameters()], gradient)

    product = Product(D)
    return {
        "SRU": passes(SRU(D, D, 1), T, B, D, precision),
        "product": passes_of(product, T, B, D),
        "scan": {"forward": forward, "training": training},
        "LSTM": passes(nn.LSTM(D, D), T, B, D, precision),
    }


def passes_of(layer: Product, T: int, B: int, D: int) -> dict[str, Callable[[], object]]:
    """Forward and training of the product, whose output is three times as wide."""
    x, gradient = torch.randn(T, B, D), torch.randn(T, B, 3 * D)
    leaf = x.clone().requires_grad_()

    def forward() -> Tensor:
        with torch.no_grad():
            return layer(x)[0]

    def training() -> tuple[Tensor, ...]:
        return torch.autograd.grad(layer(leaf)[0], [leaf, layer.weight], gradient)

    return {"forward": forward, "training": training}


def compare(
    steps: Sequence[int], rows: Sequence[int], width: int, repeats: int, seconds: float
) -> list[dict[str, Any]]:
    """A row a size and pass: tokens a second of both layers, their ratio, and the scan's share."""
    found = []
    for B in rows:
        for T in steps:
            torch.manual_seed(0)
            both = parts(T, B, width)
            for what in PASSES:
                calls = {name: of[what] for name, of in both.items()}
                times = take_turns(calls, torch.device("cpu"), repeats, seconds)
                share = [scan / (scan + product) for scan, product in zip(times["scan"], times["product"])]
                ratio = [lstm / sru for lstm, sru in zip(times["LSTM"], times["SRU"])]
                found.append(
                    {
                        "T": T,
                        "B": B,
                        "D": width,
                        "pass": what,
                        "microseconds": {name: spread([1e6 * t for t in own]) for name, own in times.items()},
                        "tokens_per_second": {
                            name: spread([T * B / t for t in times[name]]) for name in ("SRU", "LSTM")
                        },
                        "scan_share": spread(share),
                        "lstm_over_sru": spread(ratio),
                    }
                )
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    head = "pass, B, T, SRU tokens/s, LSTM tokens/s, LSTM / SRU, scan of product and scan".split(", ")
    lines = [head, ["---"] * len(head)]
    for row in sorted(rows, key=lambda row: (PASSES.index(row["pass"]), row["B"], row["T"])):
        speeds = [f"{row['tokens_per_second'][name]['median']:,.0f}" for name in ("SRU", "LSTM")]
        ratios = [shown(row["lstm_over_sru"], 2), shown(row["scan_share"], 2)]
        lines.append([row["pass"], str(row["B"]), str(row["T"]), *speeds, *ratios])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw tokens a second, and the scan's share, against the steps."""
    figure = new_figure(path, width=9.0, height=6.2)
    panels = figure.subplots(2, len(PASSES), sharex=True, sharey="row")
    batches = list(dict.fromkeys(row["B"] for row in report["rows"]))
    for (above, below), what in zip(panels.T, PASSES):
        for number, B in enumerate(batches):
            rows = [row for row in report["rows"] if (row["pass"], row["B"]) == (what, B)]
            steps = [row["T"] for row in rows]
            for name, style in (("SRU", "o-"), ("LSTM", "s--")):
                speeds = [row["tokens_per_second"][name]["median"] for row in rows]
                label = f"{name}, B {B}"
                above.plot(steps, speeds, style, color=f"C{number}", markersize=3, label=label)
            middle, low, high = ([row["scan_share"][key] for row in rows] for key in ("median", "q1", "q3"))
            below.plot(steps, middle, "o-", color=f"C{number}", markersize=3, label=f"B {B}")
            below.fill_between(steps, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
        above.set_title(what, fontsize=9)
        above.set_xscale("log", base=2)
        above.set_yscale("log")
        above.xaxis.set_major_formatter("{x:g}")
        below.set_xlabel("steps T")
        below.set_ylim(0, 1)
        for axes in (above, below):
            axes.grid(True, alpha=0.3)
    panels[0][0].set_ylabel("tokens a second")
    panels[1][0].set_ylabel("scan / (product + scan), time")
    panels[0][0].legend(fontsize=7)
    panels[1][0].legend(fontsize=7)
    surroundings = report["environment"]
    figure.suptitle(
        f"one layer of {report['width']}, float32, {surroundings['cpu']}, "
        f"{surroundings['threads']} thread(s), load {report['load_average']}",
        fontsize=9,
    )
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> int:
    """Measure as the flags say, print the table and perhaps write it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="T (default: %(default)s)")
    parser.add_argument("--rows", default=",".join(map(str, ROWS)), help="B (default: %(default)s)")
    parser.add_argument("--width", type=int, default=WIDTH, help="D (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.02, help="least time of one measurement (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own)")
    parser.add_argument("--out", type=Path, help="file for the numbers, as JSON")
    parser.add_argument("--plot", type=Path, help="file for the plot")
    given = parser.parse_args(arguments)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    try:
        steps, rows = (numbers(getattr(given, name), name) for name in ("steps", "rows"))
        if given.plot is not None:
            new_figure(given.plot, 1, 1)
    except (ValueError, Refused) as error:
        parser.error(str(error))
    found = compare(steps, rows, given.width, given.repeats, given.seconds)
    report = {
        "environment": environment(torch.device("cpu")),
        "load_average": round(os.getloadavg()[0], 1),
        "width": given.width,
        "repeats": given.repeats,
        "rows": found,
    }
    print(table(found))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if given.plot is not None:
        draw(report, given.plot)
    return 0


def numbers(text: str, name: str) -> list[int]:
    """Read ``1,2,3``."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"expected {name} above 0, separated by commas, found {text!r}")
    return [int(part) for part in parts]


if __name__ == "__main__":
    sys.exit(main())
