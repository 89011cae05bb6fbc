"""What the cells of trained language models keep of their state, and how far back it reaches.

python recipes/compare/state.py RUN [RUN …] --json state.json --plot state.png

Each run reads rows of its own test text. `kept` is the gate by which a step multiplies c of the step
before, its mean and percentiles over steps, rows and features; `slow` is the share of features whose mean
gate is above 0.9; `k back` is the size of the derivative of c by c of k steps before, with everything
between (see `seqsru.evaluation.state_use`). In the plot a line is a layer, darker the deeper.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from seqsru import runs
from seqsru.data import StreamBatches, TokenStream, read_lines
from seqsru.errors import Refused
from seqsru.evaluation.plots import new_figure
from seqsru.evaluation.signature import machine, signature
from seqsru.evaluation.state_use import StateUse, state_use, table
from seqsru.models import LanguageModel


def measured(
    run: Path,
    *,
    rows: int,
    steps: int,
    farthest: int,
    draws: int,
    checkpoint: Literal["best", "last"] = "best",
) -> dict[str, Any]:
    """The state use of every layer of one run, with its signature.

    Raises
    ------
    Refused
        It is no language model, its settings name no test text, or that is too short.
    """
    trained = runs.open_run(run, checkpoint=checkpoint, average=1, device="cpu")
    model = trained.pipeline.model
    if not isinstance(model, LanguageModel):
        raise Refused("a run of a language model", trained.task.noun, "name such a run", "RUN")
    files = trained.task.files("test")
    if not files:
        raise Refused(
            "a test text in the settings of the run", "none", f"set data.test in {run}/config.yaml", "RUN"
        )
    text = TokenStream.from_lines(read_lines(files[0]).lines, trained.pipeline.tokenizer)
    windows = StreamBatches(text.tokens, batch_size=rows, window=steps, eos=text.eos)
    inputs = windows[0].inputs
    torch.manual_seed(1)  # of the signs that derivatives are taken with
    uses = state_use(model, lambda: model(inputs), farthest=farthest, draws=draws)
    fields = {
        **trained.task.fields(model),
        "data": files[0].name,
        "rows": rows,
        "steps": len(inputs),
        "draws": draws,
        "weights": trained.weights,
        **machine(inputs.device),
    }
    return {"run": run.name, "layers": [asdict(use) for use in uses], "signature": signature(fields)}


def check_names(folders: list[Path]) -> None:
    """Refuse two runs of one name, which is the key of each in the results."""
    names = [folder.name for folder in folders]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise Refused("runs of different names", f"{twice[0]} twice", "measure them one by one", "RUN")


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the gates' percentiles and the reach of every layer, a column a run."""
    figure = new_figure(path, width=1.4 + 1.6 * max(2, len(found)), height=5.4)
    panels = figure.subplots(2, len(found), sharey="row", squeeze=False)
    for (above, below), one in zip(zip(*panels), found):
        for number, layer in enumerate(one["layers"]):
            colour = str(0.7 * (1 - (number + 1) / len(one["layers"])))
            low, quarter, middle, three, high = layer["percentiles"]
            above.plot([number + 1] * 2, [low, high], color="C0", linewidth=1)
            above.plot([number + 1] * 2, [quarter, three], color="C0", linewidth=5)
            above.plot(number + 1, middle, "o", color="white", markersize=3)
            reach = layer["reach"]
            below.plot(range(1, len(reach)), reach[1:], color=colour, label=f"layer {number + 1}")
        above.set_title(one["run"], fontsize=9)
        above.set_xlabel("layer")
        above.set_xticks(range(1, len(one["layers"]) + 1))
        above.set_xlim(0.4, len(one["layers"]) + 0.6)
        above.set_ylim(0, 1)
        below.set_xscale("log", base=2)
        below.set_yscale("log")
        below.xaxis.set_major_formatter("{x:g}")
        below.set_xlabel("steps back")
        if len(one["layers"]) > 1:
            below.legend(fontsize=7)
        for axes in (above, below):
            axes.grid(True, alpha=0.3)
    panels[0][0].set_ylabel("share of c that a step keeps\n(P5 to P95, P25 to P75, P50)")
    panels[1][0].set_ylim(bottom=1e-4)  # after all are drawn: the axis is shared, and this keeps its top
    panels[1][0].set_ylabel("size of dc/dc of k steps before")
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> int:
    """Measure the runs, print their tables, and write what the flags name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--rows", type=int, default=16, help="of the text, at as many places (default 16)")
    parser.add_argument("--steps", type=int, default=128, help="of each row (default 128)")
    parser.add_argument("--farthest", type=int, default=64, help="steps back (default 64)")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best")
    parser.add_argument("--draws", type=int, default=4, help="passes backward (default 4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, with their signatures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw gates and reach")
    given = parser.parse_args(arguments)
    found = []
    try:
        check_names(given.runs)
        for run in given.runs:
            found.append(
                measured(
                    run,
                    rows=given.rows,
                    steps=given.steps,
                    farthest=given.farthest,
                    draws=given.draws,
                    checkpoint=given.checkpoint,
                )
            )
            print(f"{run.name}\n{table([StateUse(**layer) for layer in found[-1]['layers']])}")
            print(found[-1]["signature"])
        if given.json is not None:
            by_run = {one["run"]: one for one in found}
            given.json.write_text(json.dumps(by_run, indent=1) + "\n", encoding="utf-8")
        if given.plot is not None:
            draw(found, given.plot)
    except (Refused, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
