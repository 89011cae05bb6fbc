"""``seqsru classify``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from seqsru.commands.flags import (
    add_answers,
    add_reading,
    add_run,
    add_threads,
    ask,
    chunks,
    open_run,
    output,
    progress,
    tell,
    use_threads,
)
from seqsru.data import LineReport


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Label text: one line out for each line in, in order; empty lines stay empty.

A line out is the likeliest label and, after tabs, the probability of every label. Lines come from stdin or
FILE, without labels; a line's label does not depend on the others.

  echo a gripping film | seqsru classify runs/mr      # pos	neg=0.0312	pos=0.9688
  seqsru classify runs/mr reviews.txt --json          # {"index": 0, "label": "pos", "probabilities": {…}}
"""
    add_run(parser)
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="text (default: stdin)")
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to write (default: stdout)")
    parser.add_argument(
        "--json", action="store_true", help="a JSON object a line: index, label, probabilities"
    )
    add_reading(parser)
    add_answers(parser, "classify")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Classify."""
    use_threads(arguments)
    classify = ask(
        open_run(arguments),
        "classify",
        arguments,
        reads=[arguments.file],
        writes={"--output": arguments.output},
    )
    number, report = 0, LineReport(str(arguments.file or "<stdin>"))
    with output(arguments.output) as stream, progress(arguments.output) as bar:
        for lines in chunks(arguments.file, arguments, report):
            for found in classify([line or "" for line in lines]):
                if arguments.json:
                    line = json.dumps({"index": number, **found.as_dict()}, ensure_ascii=False)
                else:
                    line = found.line()
                print(line, file=stream)
                number += 1
            stream.flush()
            bar.update(len(lines))
    if report:
        tell(str(report))
    return 0
