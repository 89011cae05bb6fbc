"""``seqsru latency``."""

from __future__ import annotations

import argparse
from pathlib import Path

from seqsru.commands.flags import add_answers, add_run, add_settings, ask, complete, open_run, write_json
from seqsru.data import read_lines
from seqsru.data.files import text_digest
from seqsru.errors import Refused
from seqsru.evaluation.latency import measure
from seqsru.evaluation.latency_report import table
from seqsru.evaluation.plots import new_figure, plot_latency
from seqsru.settings import from_signature

MEASURING = from_signature(measure, skip=["decoders", "lines"])


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Measure how long one token takes: batch 1, the users' decoder, warm-up excluded.

The first token, later tokens, the model's step alone, reading the source, and whole lines, text in to text
out: mean, P50, P90, P99 and max in milliseconds, with the environment and a signature.

  seqsru latency runs/en-de                     # lines of data.test, or data.validation
  seqsru latency runs/en-de in.txt --beam 1 --threads 1 --json latency.json --plot latency.png
  seqsru latency runs/sru --against runs/lstm --length 50       # by turns, and the ratio with its spread
"""
    add_run(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="?",
        help="lines to decode (default: data.test of the configuration, else data.validation)",
    )
    parser.add_argument("--against", metavar="RUN", type=Path, help="another run to compare with")
    parser.add_argument(
        "--first", metavar="N", type=int, default=100, help="use the first N lines (default 100)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the whole report to this file")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the distribution: .png, .svg or .pdf")
    add_settings(parser, "protocol", MEASURING)
    add_answers(parser, "latency")


def run(arguments: argparse.Namespace) -> int:
    """Measure."""
    if arguments.first < 1:
        raise Refused("--first of at least 1", str(arguments.first), "leave it out")
    if arguments.plot is not None:
        new_figure(arguments.plot, width=1.0, height=1.0)  # can it be drawn? asked before the work
    folders = [arguments.run_directory, *([arguments.against] if arguments.against is not None else [])]
    trained = [open_run(arguments, folder) for folder in folders]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if arguments.file is not None:
        data, lines = arguments.file.name, read_lines(arguments.file).lines
    else:
        data, lines = trained[0].task.sample()
    lines = [line for line in lines if line.strip()][: arguments.first]
    reads = [arguments.file] if arguments.file is not None else []
    writes = {"--json": arguments.json, "--plot": arguments.plot}
    decoders = [
        ask(run, "latency", arguments, name, reads=reads, writes=writes) for name, run in zip(names, trained)
    ]
    report = measure(decoders, lines, **complete(arguments, MEASURING))
    protocol = report["protocol"]
    signatures = [
        run.signed(
            {
                "data": data,
                "lines": len(lines),
                "decoder": decoder.decoder,
                "batch": 1,
                "length": protocol["length"] or "natural",
                "threads": protocol["threads"],
                "repeats": protocol["repeats"],
                "warmup": protocol["warmup_lines"],
                "turns": protocol["turns"],
                **decoder.settings,
                "text": text_digest(lines),
            }
        )
        for run, decoder in zip(trained, decoders)
    ]
    print(table(report), end="")
    for signature in signatures:
        print(signature)
    write_json(arguments.json, {**report, "signatures": signatures})
    if arguments.plot is not None:
        plot_latency(report, arguments.plot)
    return 0
