"""``seqsru score``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seqsru.commands.flags import (
    READING,
    add_answers,
    add_reading,
    add_run,
    add_threads,
    ask,
    chunks,
    complete,
    expect_files,
    open_run,
    tell,
    use_threads,
)
from seqsru.data import LineReport, read_parallel
from seqsru.tasks.answers import Scorer


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Print the log probability (natural logarithm) of each line, its end included.

With a language model, of each line alone; with a translation model, of TARGET's lines given SOURCE's. A line
or pair that --on-bad-line skip leaves out is an empty line.

  seqsru score runs/lm < text.txt
  seqsru score runs/en-de source.en target.de
"""
    add_run(parser, several=True)
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="*",
        help="text (default: stdin), or SOURCE and TARGET; - is stdin",
    )
    add_reading(parser)
    add_answers(parser, "score")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score."""
    use_threads(arguments)
    trained = open_run(arguments)
    scorer: Scorer = ask(trained, "score", arguments, reads=arguments.files)
    files, takes = arguments.files, f"{trained.task.noun} takes {' and '.join(scorer.reads)}"
    if len(scorer.reads) == 1:
        expect_files(files, (0, 1), f"{takes}, or stdin")
        report = LineReport(str(files[0] if files else "<stdin>"))
        for lines in chunks(files[0] if files else None, arguments, report):
            scores = iter(scorer.score([line for line in lines if line is not None]))
            for line in lines:
                print("" if line is None else f"{next(scores):.6f}")
            sys.stdout.flush()
        _tell(report)
        return 0
    expect_files(files, (len(scorer.reads),), takes)
    pair = read_parallel(*files, **complete(arguments, READING))
    found = dict(zip(pair.numbers, scorer.score(pair.source, pair.target)))
    for number in range(1, pair.report.total + 1):
        print(f"{found[number]:.6f}" if number in found else "")
    _tell(pair.report)
    return 0


def _tell(report: LineReport) -> None:
    if report:
        tell(str(report))
