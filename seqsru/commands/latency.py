"""``seqsru latency``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seqsru import runs
from seqsru.commands.flags import (
    LOADING,
    add_answers,
    add_run,
    add_settings,
    ask,
    complete,
    given,
    open_run,
    placed,
    write_json,
)
from seqsru.data.files import text_digest
from seqsru.errors import Refused
from seqsru.evaluation.clock import TimedDecoder
from seqsru.evaluation.latency import measure
from seqsru.evaluation.latency_report import table
from seqsru.evaluation.plots import new_figure, plot_latency
from seqsru.settings import Section, Setting, from_signature

if TYPE_CHECKING:
    from seqsru.tasks.answers import Trained

MEASURING = from_signature(measure, skip=["decoders", "lines"])
PREFIX = "against_"
AGAINST = Section(
    {
        PREFIX + name: Setting(setting.kind, None, f"As --{name}, for the other system.")
        for name, setting in LOADING.entries.items()
        if name in ("engine", "precision") and isinstance(setting, Setting)
    }
)


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Measure how long one token takes: batch 1, the users' decoder, warm-up excluded.

The first token, later tokens, the model's step alone, reading the source, and whole lines, text in to text
out: mean, P50, P90, P99 and max in milliseconds, with the environment and a signature. The compiled engine
reads the clock itself, between two tokens. Of a recogniser: whole recordings, and the real-time factor.

  seqsru latency runs/en-de                     # lines of data.test, or data.validation
  seqsru latency runs/en-de in.txt --beam 1 --threads 1 --json latency.json --plot latency.png
  seqsru latency runs/sru --against runs/lstm --length 50       # by turns, and the ratio with its spread
  seqsru latency runs/en-de.seqsru                              # what `seqsru quantize` made
  seqsru latency runs/en-de.seqsru --guard repeats,numbers --alpha 1.4 # flags of the search: as translate's
  seqsru latency runs/an4 --piece 0.5                           # a recogniser that streams
  seqsru latency runs/en-de --engine compiled --against-engine torch
  seqsru latency runs/en-de --engine compiled --precision int8 --against-precision float32
"""
    add_run(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="?",
        help="lines to decode; of a recogniser a manifest (.tsv), or names of recordings (default: data.test "
        "of the configuration, else data.validation)",
    )
    parser.add_argument(
        "--against",
        metavar="RUN",
        type=Path,
        help="another run to compare with (default: the same one where one of the two flags below is given)",
    )
    parser.add_argument(
        "--first", metavar="N", type=int, default=100, help="use the first N lines (default 100)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the whole report to this file")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the distribution: .png, .svg or .pdf")
    add_settings(parser, "the system to compare with, if it is loaded in another way than the first", AGAINST)
    add_settings(parser, "protocol", MEASURING)
    add_answers(parser, "latency")


def run(arguments: argparse.Namespace) -> int:
    """Measure."""
    if arguments.first < 1:
        raise Refused("--first of at least 1", str(arguments.first), "leave it out")
    if arguments.plot is not None:
        new_figure(arguments.plot, width=1.0, height=1.0)  # can it be drawn? asked before the work
    folders, trained = [arguments.run_directory], [open_run(arguments)]
    changes = given(arguments, AGAINST)
    if arguments.against is not None or changes:
        arguments.against = arguments.against or arguments.run_directory
        folders.append(arguments.against)
        trained.append(_open_other(arguments))
    names = _names(folders, trained)
    if arguments.file is not None:
        data, lines = arguments.file.name, trained[0].task.lines(arguments.file)
    else:
        data, lines = trained[0].task.sample()
    lines = [line for line in lines if line.strip()][: arguments.first]
    reads = [arguments.file] if arguments.file is not None else []
    writes = {"--json": arguments.json, "--plot": arguments.plot}
    asked = complete(arguments, MEASURING)
    decoders = []
    for name, run in zip(names, trained):
        decoder = ask(run, "latency", arguments, name, reads=reads, writes=writes)
        if asked["length"] is not None:
            decoder = decoder.forced or decoder
        decoders.append(_described(run, decoder))
    report = measure(decoders, lines, **asked)
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


def _open_other(arguments: argparse.Namespace) -> Trained:
    """Load the second system: as the first one, but for what its own flags say.

    A precision is that of an engine, so it is not taken over where the engine is not.
    """
    changes, flags = given(arguments, AGAINST), complete(arguments, LOADING)
    named = {name.removeprefix(PREFIX): value for name, value in changes.items()}
    taken = {name: value for name, value in flags.items() if name != "precision" or "engine" not in named}
    with placed(flags):
        try:
            return runs.open_run(arguments.against, **{**taken, **named})
        except Refused as refusal:
            name = f"{PREFIX}{refusal.setting}"
            if name not in changes:
                raise
            blamed = Refused(refusal.expected, refusal.found, refusal.do, name)
            raise changes.error(blamed) from refusal


def _names(folders: list[Path], trained: list[Trained]) -> list[str]:
    """What the report calls the systems: the name of the run, with what tells them apart."""
    names = [folder.name for folder in folders]
    if len(set(names)) == len(names):
        return names
    engines = [run.engine for run in trained]
    kinds = ["torch" if engine is None else f"compiled {engine.model.precision}" for engine in engines]
    if len({folder.resolve() for folder in folders}) == 1 and len(set(kinds)) == len(kinds):
        return [f"{name} {kind}" for name, kind in zip(names, kinds)]
    return [str(folder) for folder in folders]


def _described(trained: Trained, decoder: TimedDecoder) -> TimedDecoder:
    """Add what a file says of its model, and of its shortlist."""
    record = trained.record
    if decoder.engine is None or not record:
        return decoder
    shortlist = record["shortlist"] and f"shortlist {record['shortlist']}"
    return replace(
        decoder,
        engine=", ".join(filter(None, [decoder.engine, shortlist])),
        weights=record["model"],
        parameters=record.get("parameters"),
    )
