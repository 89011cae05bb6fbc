"""``seqsru score``."""

from __future__ import annotations

import argparse
from pathlib import Path

from seqsru.commands.flags import (
    add_answers,
    add_run,
    add_threads,
    ask,
    chunks,
    expect_files,
    open_run,
    use_threads,
)
from seqsru.data import read_parallel
from seqsru.tasks.task import Scorer


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Print the log probability (natural logarithm) of each line, its end included.

With a language model, of each line alone; with a translation model, of TARGET's lines given SOURCE's.

  seqsru score runs/lm < text.txt
  seqsru score runs/en-de source.en target.de
"""
    add_run(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="*",
        help="text (default: stdin), or SOURCE and TARGET; - is stdin",
    )
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
        for lines in chunks(*files or [None]):
            for log_prob in scorer.score(lines):
                print(f"{log_prob:.6f}")
        return 0
    expect_files(files, (len(scorer.reads),), takes)
    pair = read_parallel(*files)
    for log_prob in scorer.score(pair.source, pair.target):
        print(f"{log_prob:.6f}")
    return 0
